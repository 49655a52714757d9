"""A session on record from its beginning, to be played again in the docs: see `App.record`."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import TracebackType

from nbws.playback import SUFFIX, Playback, PlaybackPage, opens, secret_values
from nbws.transcript import OPENED, Line, Log, Transcript, counted

__all__ = ["Tape", "documentation"]

_LINES = 2000
_CHARACTERS = 2**19  #: of all frames and pages together
_PAGES = 32  #: that were served, and whose websocket has not opened yet
_NAME = re.compile(r"[\w.-]+")


class _Documentation:
    """Whether the process runs a notebook for its docs: every app is on record then, and no file is written."""

    is_made = False
    _connections = itertools.count(1)

    def begin(self) -> None:
        self.is_made = True
        self._connections = itertools.count(1)

    def new_id(self) -> str:
        """Of a connection: the same in each run, so that what shows it is the same page each time."""
        return hashlib.blake2b(str(next(self._connections)).encode(), digest_size=6).hexdigest()


documentation = _Documentation()


class Tape:
    """What clients do from now on: the pages that they load, what they say, and what they are sent.

    It takes up clients that connect while it runs, each from its beginning. `save()` writes what there is so far;
    as a context manager it ends and is saved. It keeps the first 2,000 lines, half a million characters at the most.
    """

    def __init__(
        self,
        name: str | None,
        log: Log,
        *,
        title: Callable[[], str] = str,
        redacted: Callable[[], Collection[str]] = tuple,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a recording; give letters, digits, '-', '_' and '.', as in '01-chat'"
            )
        self.name = name
        self._log, self._title, self._redacted, self._secrets = log, title, redacted, secrets
        self._lines: list[Line] = []
        self._left = _CHARACTERS
        self._is_cut = False
        self._served: deque[PlaybackPage] = deque(maxlen=_PAGES)
        self._used: set[tuple[PlaybackPage, str]] = set()  # with the address of the websocket that it has opened
        self._pages: dict[str, PlaybackPage] = {}
        self._heard: set[str] = set()
        self._lock = threading.Lock()
        log.tapes = (*log.tapes, self)

    # -- what the app tells it; from any thread

    def serves(self, session: object, path: str, html: str) -> None:
        """A browser with this *session* was served a page."""
        with self._lock:
            self._served.append(PlaybackPage(path, html, session))
            self._heard |= secret_values(f"{path} {html}", self._redacted())

    def has_page_for(self, session: object, url: str) -> bool:
        """Whether a browser with this *session* was served a page that opens a websocket at *url*, and has not yet."""
        with self._lock:
            return self._page_for(session, url) is not None

    def connects(self, connection: str, session: object, url: str, secrets: Iterable[str] = ()) -> None:
        """A browser with this *session* opens a websocket at *url* now. *secrets* came with it, such as cookies."""
        with self._lock:
            page = self._page_for(session, url)
            if page is not None:
                self._used.add((page, url))
            if page is not None and self._pays(len(page.html) if page not in self._pages.values() else 0):
                self._pages[connection] = page
            self._heard.update(secrets, secret_values(url, self._redacted()))

    def hears(self, secrets: Iterable[str]) -> None:
        """What fields that are redacted have held, so that no answer repeats it."""
        with self._lock:
            self._heard.update(secrets)

    def take(self, line: Line) -> None:
        """A *line* was added to the log. It may still change."""
        with self._lock:
            if not self._is_cut and len(self._lines) < _LINES and self._pays(len(line.data or "")):
                self._lines.append(line)
            else:
                self._is_cut = True

    def _page_for(self, session: object, url: str) -> PlaybackPage | None:
        pages = (page for page in reversed(self._served) if page.owner is session)
        return next((page for page in pages if opens(page.html, url) and (page, url) not in self._used), None)

    def _pays(self, characters: int) -> bool:
        self._left -= characters
        return self._left >= 0

    # -- what the author does with it

    @property
    def is_running(self) -> bool:
        """Whether it takes up clients that connect now."""
        return self in self._log.tapes

    @property
    def secrets(self) -> set[str]:
        """Credentials, cookies and values of fields that are redacted, as far as they were seen."""
        with self._lock:
            return self._heard.union(self._secrets())

    def stop(self) -> None:
        """Take up nothing more."""
        self._log.tapes = tuple(each for each in self._log.tapes if each is not self)

    def playback(self) -> Playback:
        """The session so far, as its file will hold it."""
        with self._lock:
            lines, pages = list(self._lines), dict(self._pages)
        opened = {each for line in lines if line.kind == OPENED for each in line.connections}
        lines = [line for line in lines if not opened.isdisjoint(line.connections)]
        return Playback.of(
            Transcript(lines),
            pages,
            title=self._title(),
            redacted=self._redacted(),
            secrets=self.secrets,
            is_cut=self._is_cut,
        )

    def save(self) -> Path:
        """Write `NAME.replay.json` into the current folder, which in a notebook is the notebook's own. Gives the file.

        Where nobody has connected since the recording began nothing is written; nor does one in which nobody has said
        anything replace a file that is there: *Run All* would lose it. That is printed then. While docs are made
        nothing is written either, and they take it as it is.
        """
        path = Path(f"{self.name}{SUFFIX}")
        if documentation.is_made:
            return path
        played = self.playback()
        if played.messages or (played.entries and not path.exists()):
            path.write_text(played.dumps(), encoding="utf-8", newline="\n")
            return path
        there = f"{path} is as it was" if path.exists() else "nothing is saved"
        missing = "said anything" if played.entries else "connected"
        print(
            f"Nobody has {missing} since app.record({self.name!r}), so {there}. Show a preview after it, and use that."
        )
        return path

    def __enter__(self) -> Tape:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self.save()

    def __repr__(self) -> str:
        said = self.playback()
        state = "runs" if self.is_running else "has ended"
        cut = ", and no more is kept" if said.is_cut else ""
        counts = f"{counted(len(said.clients), 'client')}, {counted(said.messages, 'message')}, {said.seconds:.1f} s"
        return f"<recording {self.name!r} {state}: {counts}{cut}; save() writes {self.name}{SUFFIX}>"
