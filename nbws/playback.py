"""A recorded session as a document: the pages of its clients, and what was said on them, in order, with its times.

It is what a sidecar file `NAME.replay.json` holds, and what the player of a documentation page plays. One line of the
file is one thing that was said, so that a diff of two recordings says what has changed.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_plus, urljoin, urlsplit

from nbws.errors import NbwsError
from nbws.messages import REDACTED, without_headers
from nbws.transcript import CLOSED, OPENED, RECEIVED, SENT, Line

__all__ = [
    "FORMAT",
    "SUFFIX",
    "Entry",
    "Participant",
    "Playback",
    "PlaybackError",
    "PlaybackPage",
    "cleaned",
    "opens",
    "secret_values",
    "without_own_script",
]

FORMAT = "nbws replay 1"
SUFFIX = ".replay.json"

_SHORT = 4  #: characters; a secret that is shorter is looked for in no text, where it would be found everywhere


class PlaybackError(NbwsError):
    """What was read is no recording that this version plays."""


@dataclass(frozen=True, eq=False)
class PlaybackPage:
    """A page as one client was served it. By identity: two that were loaded are two clients, be they alike."""

    path: str  #: with its query
    html: str
    owner: object = None  #: the session of the browser that loaded it; None where that is not known


@dataclass(frozen=True)
class Participant:
    """One client: a page that was loaded, with all websockets that it opened; and pages that took its place later."""

    name: str
    path: str  #: of the page; of the websocket where the page is not known
    page: str | None  #: its HTML as it was served first; None where it is not known


@dataclass(frozen=True)
class Entry:
    """One thing that happened. *kind* is as in a transcript: "opened", "received", "sent" or "closed".

    *data* is None where it was too long to keep; *size* says how long it was.
    """

    at: float  #: seconds since the beginning, rounded to 10 ms
    kind: str
    clients: tuple[int, ...]  #: their places in `Playback.clients`; one, but for what was sent to several
    url: str  #: of the websocket
    data: str | bytes | None = None
    size: int = 0
    version: int | None = None  #: of the handler that took it up
    page: str | None = None  #: of a client that had left and has loaded a page anew: that page's HTML


@dataclass(frozen=True)
class Playback:
    """A session of one or several clients with an app, to be played again. *is_cut*: there was more than is kept."""

    clients: tuple[Participant, ...]
    entries: tuple[Entry, ...]
    title: str = ""
    is_cut: bool = False

    @classmethod
    def of(
        cls,
        lines: Iterable[Line],
        pages: Mapping[str, PlaybackPage] | None = None,
        *,
        title: str = "",
        redacted: Collection[str] = (),
        secrets: Iterable[str] = (),
        is_cut: bool = False,
    ) -> Playback:
        """What *lines* of a log say, of the connections that open in them.

        *pages* are those on which connections were opened, by the connection's id. No value of a field that is in
        *redacted* (in lower case) is in what comes out, and none of *secrets*.
        """
        return _Maker(pages or {}, redacted, secrets).make(list(lines), title, is_cut)

    @property
    def seconds(self) -> float:
        return self.entries[-1].at if self.entries else 0.0

    @property
    def messages(self) -> int:
        """How many messages clients have sent."""
        return sum(entry.kind == RECEIVED for entry in self.entries)

    def heard_by(self, client: int) -> list[str]:
        """The fragments that were sent to the client at this place, in order."""
        return self._heard(client, self.entries)

    def last_page(self, client: int) -> tuple[str | None, list[str]]:
        """(the page that the client at this place loaded last, the fragments that were sent to that one)."""
        page = self.clients[client].page
        since = 0
        for place, entry in enumerate(self.entries):
            if entry.page is not None and entry.clients == (client,):
                page, since = entry.page, place
        return page, self._heard(client, self.entries[since:])

    def _heard(self, client: int, entries: Iterable[Entry]) -> list[str]:
        sent = (entry for entry in entries if entry.kind == SENT and client in entry.clients)
        return [entry.data for entry in sent if isinstance(entry.data, str)]

    def _pages(self) -> list[str]:
        """All that were loaded, each once."""
        loaded = [each.page for each in self.clients] + [entry.page for entry in self.entries]
        return list(dict.fromkeys(page for page in loaded if page is not None))

    def is_of(self, path: str) -> bool:
        """Whether a client has a page of this *path*, queries aside, or it is not known which pages they have."""
        known = [urlsplit(each.path).path for each in self.clients if each.page is not None]
        return not known or urlsplit(path).path in known

    def at_path(self, path: str) -> Playback:
        """The part of the clients whose page has this *path*, queries aside; all of it where none has it."""
        there = [n for n, each in enumerate(self.clients) if urlsplit(each.path).path == urlsplit(path).path]
        if not there or len(there) == len(self.clients):
            return self
        places = {old: new for new, old in enumerate(there)}
        entries = (
            replace(entry, clients=tuple(places[each] for each in entry.clients if each in places))
            for entry in self.entries
        )
        return replace(
            self,
            clients=tuple(self.clients[old] for old in there),
            entries=tuple(entry for entry in entries if entry.clients),
        )

    def with_files(self, files: Mapping[str, str]) -> Playback:
        """The session with *files*, data URLs by their address in the app, in the place of those addresses."""
        if not files:
            return self

        def filled(text: str, path: str) -> str:
            def fill(found: re.Match[str]) -> str:
                url = files.get(urljoin(path, html.unescape(found[3])))
                return found[0] if url is None else f"{found[1]}{found[2]}{url}{found[2]}"

            return _LOADING.sub(lambda tag: _ADDRESS.sub(fill, tag[0]), text)

        def of(entry: Entry) -> Entry:
            if entry.page is not None:
                return replace(entry, page=filled(entry.page, self.clients[entry.clients[0]].path))
            if entry.kind != SENT or not isinstance(entry.data, str) or not entry.clients:
                return entry
            data = filled(entry.data, self.clients[entry.clients[0]].path)
            return replace(entry, data=data, size=len(data))

        clients = (replace(each, page=filled(each.page, each.path) if each.page else None) for each in self.clients)
        return replace(self, clients=tuple(clients), entries=tuple(map(of, self.entries)))

    def files(self) -> set[str]:
        """The addresses in the app of what its pages and fragments load: pictures, styles, scripts, media."""
        texts = [(each.page or "", each.path) for each in self.clients]
        for place, each in enumerate(self.clients):
            texts += [(data, each.path) for data in self.heard_by(place)]
            texts += [(entry.page, each.path) for entry in self.entries if entry.page and entry.clients == (place,)]
        found = set()
        for text, path in texts:
            for tag in _LOADING.finditer(text):
                for _, _, address in _ADDRESS.findall(tag[0]):
                    url = urljoin(path, html.unescape(address))
                    if url.startswith("/") and not url.startswith(("//", "/_nbws/")):
                        found.add(url)
        return found

    def document(self) -> dict[str, Any]:
        """It as values of JSON, as a player takes it."""
        pages = self._pages()
        clients = [
            {"name": each.name, "path": each.path, **({} if each.page is None else {"page": pages.index(each.page)})}
            for each in self.clients
        ]
        cut = {"cut": True} if self.is_cut else {}
        entries = [self._written(entry, pages) for entry in self.entries]
        return {"format": FORMAT, "title": self.title, **cut, "pages": pages, "clients": clients, "entries": entries}

    def dumps(self) -> str:
        """The text of a file that holds it. The same for the same session, whatever its times were to 10 ms."""
        parts = []
        for name, value in self.document().items():
            if name == "pages":
                parts.append(
                    _listed(name, [_listed(None, [_json(piece) for piece in _pieces(page)]) for page in value])
                )
            else:
                is_list = isinstance(value, list)
                parts.append(_listed(name, map(_json, value)) if is_list else f"{_json(name)}: {_json(value)}")
        return "{\n" + ",\n".join(parts) + "\n}\n"

    @classmethod
    def loads(cls, text: str, source: str = "the file") -> Playback:
        """The session that *text* holds. Raises PlaybackError, which names *source*, for what is none."""
        try:
            found = json.loads(text)
        except ValueError as exc:
            raise PlaybackError(f"{source} is no recording: {exc}; record the session again") from None
        said = found.get("format") if isinstance(found, dict) else None
        if said != FORMAT:
            raise PlaybackError(
                f"{source} is of the format {said!r}, and this nbws reads {FORMAT!r}; record the session again"
                if said is not None
                else f"{source} is no recording of nbws; app.record(name) and save() write one"
            )
        try:
            return cls._read(found)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as exc:
            raise PlaybackError(
                f"{source} says {FORMAT!r}, and is damaged: {exc!r}; record the session again"
            ) from None

    @classmethod
    def _read(cls, found: Mapping[str, Any]) -> Playback:
        pages = ["".join(page) for page in found["pages"]]
        clients = [
            Participant(str(each["name"]), str(each["path"]), pages[each["page"]] if "page" in each else None)
            for each in found["clients"]
        ]
        urls: dict[int, str] = {}
        entries = [_read_entry(each, urls, len(clients), pages) for each in found["entries"]]
        return cls(tuple(clients), tuple(entries), str(found.get("title", "")), bool(found.get("cut", False)))

    def _written(self, entry: Entry, pages: Sequence[str]) -> dict[str, Any]:
        """*entry* as it stands in a file. Of a client's websockets the first one is named only where it opens."""
        first = dict(reversed(self._opened()))
        one: dict[str, Any] = {"at": entry.at}
        one |= {"to": list(entry.clients)} if entry.kind == SENT else {"client": entry.clients[0]}
        if entry.kind == OPENED:
            anew = {"page": pages.index(entry.page)} if entry.page is not None else {}
            return {**one, "connects": entry.url, **anew}
        where = {} if all(first.get(each) == entry.url for each in entry.clients) else {"on": entry.url}
        if entry.kind == CLOSED:
            return {**one, "leaves": True, **where}
        if isinstance(entry.data, bytes):
            said: dict[str, Any] = {"bytes": base64.b64encode(entry.data).decode()}
        elif entry.data is None:
            said = {"size": entry.size}
        elif entry.kind == SENT:
            said = {"html": entry.data}
        else:
            fields = _fields(entry.data)
            said = {"says": fields} if fields is not None else {"text": entry.data}
        return {**one, **said, **({"version": entry.version} if entry.version is not None else {}), **where}

    def _opened(self) -> list[tuple[int, str]]:
        return [(entry.clients[0], entry.url) for entry in self.entries if entry.kind == OPENED]


def _read_entry(each: Mapping[str, Any], urls: dict[int, str], count: int, pages: Sequence[str]) -> Entry:
    clients = tuple(each["to"]) if "to" in each else (each["client"],)
    if not all(type(place) is int and 0 <= place < count for place in clients):
        raise ValueError(f"there is no client {list(clients)}")
    if "connects" in each:
        urls.setdefault(clients[0], each["connects"])
        page = pages[each["page"]] if "page" in each else None
        return Entry(each["at"], OPENED, clients, each["connects"], page=page)
    url = each.get("on") or (urls.get(clients[0], "") if clients else "")
    if "leaves" in each:
        return Entry(each["at"], CLOSED, clients, url)
    data: str | bytes | None = None
    if "bytes" in each:
        data = base64.b64decode(each["bytes"])
    elif "says" in each:
        data = json.dumps(each["says"], ensure_ascii=False)
    else:
        data = each.get("html", each.get("text"))
    kind = SENT if "to" in each else RECEIVED
    size = len(data) if data is not None else int(each["size"])
    return Entry(each["at"], kind, clients, url, data, size, each.get("version"))


def _fields(data: str) -> dict[str, Any] | None:
    """The fields of a message; None where it is no JSON object, or would not be the same text again."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and json.dumps(found, ensure_ascii=False) == data else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _listed(name: str | None, items: Iterable[str]) -> str:
    start = f"{_json(name)}: " if name is not None else ""
    lines = ",\n".join(items)
    return start + (f"[\n{lines}\n]" if lines else "[]")


def _pieces(page: str) -> list[str]:
    """*page* in lines that say one thing each; joined they are the page."""
    return re.split(r"(?<=>)(?=<)|(?<=\n)(?=.)", page)


# -- of a log


@dataclass(eq=False)
class _Client:
    page: PlaybackPage | None  #: that it loaded first
    path: str
    urls: list[str] = field(default_factory=list)  #: of the websockets of the page that it loaded last
    connections: set[str] = field(default_factory=set)  #: that are open
    loaded: PlaybackPage | None = None  #: last


class _Maker:
    """Makes one Playback: tells clients apart, and takes out what is not to be told."""

    def __init__(self, pages: Mapping[str, PlaybackPage], redacted: Collection[str], secrets: Iterable[str]) -> None:
        self._pages, self._redacted = pages, frozenset(redacted)
        self._secrets = set(secrets)
        self._clients: list[_Client] = []
        self._of: dict[str, int] = {}  # connection -> the place of its client
        self._urls: dict[str, str] = {}  # connection -> the address of its websocket

    def make(self, lines: Sequence[Line], title: str, is_cut: bool) -> Playback:
        began = lines[0].time if lines else 0.0
        found: list[Entry] = []
        for line in lines:
            anew = self._open(line) if line.kind == OPENED else None
            at = round(max(0.0, line.time - began), 2)
            for url, clients in self._receivers(line):
                found.append(Entry(at, line.kind, clients, url, line.data, line.size, line.version, anew))
            if line.kind == CLOSED:
                for client in self._clients:
                    client.connections.difference_update(line.connections)
        pages = [each.page.html for each in self._clients if each.page is not None]
        clean = self._cleaner([*pages, *(each.page for each in found if each.page is not None)], found)
        participants = tuple(
            Participant(
                f"client {number}",
                clean(each.path),
                clean(without_own_script(each.page.html)) if each.page is not None else None,
            )
            for number, each in enumerate(self._clients, 1)
        )
        return Playback(participants, tuple(self._told(entry, clean) for entry in found), title, is_cut)

    def _open(self, line: Line) -> str | None:
        """Note whose the connection is. Gives the page that its client has loaded anew, where it was there before."""
        (connection,) = line.connections
        page, url = self._pages.get(connection), self._address(line.url)
        client = next((each for each in self._clients if page and each.loaded is page and url not in each.urls), None)
        anew = None
        if client is None and page is not None and page.owner is not None:
            # Of a browser whose page is gone: it has loaded one in its place, after a form was sent, say.
            gone = [each for each in self._clients if each.loaded and each.loaded.owner is page.owner]
            client = next((each for each in reversed(gone) if not each.connections), None)
            if client is not None:
                client.loaded, client.urls, anew = page, [], without_own_script(page.html)
        if client is None:
            client = _Client(page, self._address(page.path) if page is not None else url, loaded=page)
            self._clients.append(client)
        client.urls.append(url)
        client.connections.add(connection)
        self._of[connection], self._urls[connection] = self._clients.index(client), url
        return anew

    def _receivers(self, line: Line) -> list[tuple[str, tuple[int, ...]]]:
        """(address of the websockets, clients) for each address among the connections of *line*."""
        by_url: dict[str, list[int]] = {}
        for connection in line.connections:
            if connection in self._of:  # else it was open before
                by_url.setdefault(self._urls[connection], []).append(self._of[connection])
        return [(url, tuple(clients)) for url, clients in by_url.items()]

    def _address(self, url: str) -> str:
        """*url* without the values of parameters that are to be redacted."""
        path, mark, query = url.partition("?")
        if not any(name.lower() in self._redacted for name, _ in parse_qsl(query, keep_blank_values=True)):
            return url
        parts = []
        for part in query.split("&"):
            (name, value) = (parse_qsl(part, keep_blank_values=True) or [("", "")])[0]
            is_secret = name.lower() in self._redacted
            self._secrets.update({value} if is_secret else ())
            parts.append(f"{part.partition('=')[0]}={quote(REDACTED)}" if is_secret else part)
        return f"{path}{mark}{'&'.join(parts)}"

    def _cleaner(self, pages: Iterable[str], entries: Iterable[Entry]) -> Callable[[str], str]:
        sent = (entry.data for entry in entries if entry.kind == SENT and isinstance(entry.data, str))
        for text in (*pages, *sent):
            self._secrets |= secret_values(text, self._redacted)
        return cleaned(self._secrets)

    def _told(self, entry: Entry, clean: Callable[[str], str]) -> Entry:
        if entry.page is not None:
            entry = replace(entry, page=clean(entry.page))
        if not isinstance(entry.data, str):
            secrets = [each.encode() for each in self._secrets if len(each) >= _SHORT]
            if entry.data is not None and any(secret in entry.data for secret in secrets):
                return replace(entry, data=None)
            return entry
        data = without_headers(entry.data, self._redacted) if entry.kind == RECEIVED else entry.data
        data = clean(data)
        return replace(entry, data=data, size=len(data))


def cleaned(secrets: Iterable[str]) -> Callable[[str], str]:
    """What puts "(redacted)" in the place of each of *secrets*, also as it is written in HTML, JSON and URLs."""
    forms = {
        form
        for each in secrets
        if len(each) >= _SHORT and each != REDACTED
        for form in (each, html.escape(each), html.escape(each, quote=False), json.dumps(each)[1:-1], quote(each))
    }
    if not forms:
        return str
    found = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))
    return lambda text: found.sub(REDACTED, text)


_ATTRIBUTES = r"""(?:[^>"']|"[^"]*"|'[^']*')*"""
_FIELD = re.compile(rf"<(?:input|meta)\b({_ATTRIBUTES})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([^\s"'=<>/]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""")
_WITH_VALUES = re.compile(r"""\b(?:data-)?hx-(?:vals|headers)\s*=\s*("[^"]*"|'[^']*')""", re.IGNORECASE)
_LOADING = re.compile(
    rf"<(?:img|script|source|video|audio|track|image|link(?=[^>]*stylesheet))\b{_ATTRIBUTES}>", re.IGNORECASE
)
_ADDRESS = re.compile(r"""(\s(?:src|href|poster)\s*=\s*)(["'])([^"'>]+)\2""", re.IGNORECASE)
_PARAMETER = re.compile(r"""[?&](?:amp;)?([\w.-]+)=([^&"'\s#<>]+)""")
_EMPTY_SCRIPT = re.compile(rf"<script\b({_ATTRIBUTES})></script>", re.IGNORECASE)


def secret_values(text: str, redacted: Collection[str]) -> set[str]:
    """The values that HTML or a URL carries of fields named in *redacted*: of inputs, in `hx-vals`, in queries."""
    if not redacted:
        return set()
    found: set[str] = set()
    for tag in _FIELD.finditer(text):
        attributes = {name.lower(): html.unescape(value.strip("\"'")) for name, value in _ATTRIBUTE.findall(tag[1])}
        if {attributes.get("name", "").lower(), attributes.get("id", "").lower()} & set(redacted):
            found |= {attributes.get("value", ""), attributes.get("content", "")}
    for name, value in _PARAMETER.findall(text):
        if name.lower() in redacted:
            found |= {value, unquote_plus(value), html.unescape(value)}
    for values in _WITH_VALUES.findall(text):
        try:
            fields = json.loads(html.unescape(values[1:-1]))
        except ValueError:
            continue
        if isinstance(fields, dict):
            found |= {str(value) for name, value in fields.items() if name.lower() in redacted}
    return found - {"", REDACTED, quote(REDACTED)}


def without_own_script(page: str) -> str:
    """*page* without nbws' own script, whose business is the server: to come back to it, and to follow its code."""
    return _EMPTY_SCRIPT.sub(lambda found: "" if "/_nbws/static/nbws.js" in found[1] else found[0], page)


def opens(page: str, url: str) -> bool:
    """Whether HTML has an element that opens a websocket at *url*, held against its path."""
    path = urlsplit(url).path
    for address in re.findall(r"""ws-connect\s*=\s*["']([^"']*)["']""", page):
        if urlsplit(html.unescape(address)).path.endswith(path):
            return True
    return False
