"""Holds the built pages to it that they lead nowhere that is not there, and load nothing from elsewhere.

    python docs/_ext/links.py docs/_build/html

Ends with 1 where they do, and lists what they link to on the internet, which it does not ask for.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADING_LINKS = set("stylesheet icon preload modulepreload prefetch manifest preconnect dns-prefetch".split())
_URLS_IN_CSS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")


@dataclass
class Page(HTMLParser):
    """What one page links to, what it loads by itself, and what may be linked to in it."""

    text: str
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._in_style = False
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        self._in_style = tag == "style"
        self.loads += _in_css(given.get("style", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and _LOADING_LINKS & set(given.get("rel", "").split()):
            self.loads.append(given.get("href", ""))
        elif tag != "a":
            self.loads += [given[name] for name in ("src", "data", "poster") if name in given]
            self.loads += [each.split()[0] for each in given.get("srcset", "").split(",") if each.strip()]
        if "srcdoc" in given:  # a page within the page
            self.loads += Page(given["srcdoc"]).loads

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads += _in_css(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


def _in_css(text: str) -> list[str]:
    return [one or other for one, other in _URLS_IN_CSS.findall(text)]


def is_elsewhere(url: str) -> bool:
    """Whether it is of another host."""
    return url.startswith("//") or urlsplit(url).scheme in ("http", "https", "ws", "wss", "ftp")


def problems(folder: Path) -> list[str]:
    """What is wrong with the pages in *folder*, a sentence each."""
    pages = _pages(folder)
    found = [f"{sheet.relative_to(folder)} loads {url}" for sheet in folder.rglob("*.css")
             for url in _in_css(sheet.read_text(encoding="utf-8")) if is_elsewhere(url)]  # fmt: skip
    for path, page in pages.items():
        name = path.relative_to(folder)
        found += [f"{name} loads {url}" for url in page.loads if is_elsewhere(url)]
        for url in {*page.links, *page.loads}:
            parts = urlsplit(url)
            if parts.scheme or url.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{name} leads to {url}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name} leads to {url}, and there is no such place in that page")
    return sorted(found)


def elsewhere(folder: Path) -> list[str]:
    """What the pages link to on other hosts."""
    return sorted({url for page in _pages(folder).values() for url in page.links if is_elsewhere(url)})


def _pages(folder: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def main(folder: Path) -> int:
    found = problems(folder)
    print("\n".join(found) or f"{folder}: every link leads somewhere, and nothing is loaded from elsewhere")
    print("linked to, and not asked for:", *(elsewhere(folder) or ["nothing"]), sep="\n  ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
