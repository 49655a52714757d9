"""When has a file been saved? By its mark, looked at whenever something happens beside it.

Editors write a file anew, rename another one over it, or remove it first; so directories are watched, and not files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nbws.errors import NbwsError

__all__ = ["Mark", "mark", "saves"]

Mark = tuple[int, int, int]
"""What tells one state of a file from another."""

_LOOK_SECONDS = 1.0  #: a file is looked at as often, whatever the system says or does not say
_QUIET_SECONDS = 0.05  #: a save in pieces is over when nothing has been written for so long
_EMPTY_SECONDS = 0.5  #: how long a file that an editor has emptied may take to be filled


def mark(path: Path) -> Mark | None:
    """The present mark of *path*; None where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def saves(files: Callable[[], Mapping[Path, Mark | None]], stop: threading.Event) -> Iterator[list[Path]]:
    """The files that were saved, each time that some were, until *stop* is set.

    *files* gives those to watch, each with the mark that it had when it was read, and is asked again each time: what
    has been read since is not saved any more. A file that is not there is waited for. Blocks between saves. Raises
    NbwsError where watchfiles is not installed, KeyboardInterrupt in the main thread.
    """
    try:
        from watchfiles import watch
    except ImportError as exc:
        raise NbwsError("watching files needs watchfiles; pip install 'nbws[watch]' installs it") from exc

    while not stop.is_set():
        folders = _folders(files())
        if not folders:
            stop.wait(_LOOK_SECONDS)
            continue
        for _ in watch(
            *folders,
            watch_filter=None,
            debounce=300,
            step=round(_QUIET_SECONDS * 1000),
            stop_event=stop,
            rust_timeout=round(_LOOK_SECONDS * 1000),
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        ):
            saved = _saved(files())
            if saved:
                yield saved
            if _folders(files()) != folders:
                break


def _folders(files: Mapping[Path, Mark | None]) -> list[Path]:
    return sorted({path.parent for path in files if path.parent.is_dir()})


def _saved(files: Mapping[Path, Mark | None]) -> list[Path]:
    found = [path for path, before in files.items() if mark(path) not in (None, before)]
    return [path for path in found if _is_filled(path, files[path])]


def _is_filled(path: Path, before: Mark | None) -> bool:
    """Whether *path* holds something, as it did *before*; an editor that empties it first gets time to fill it."""
    end = time.monotonic() + _EMPTY_SECONDS
    while before is not None and before[1] > 0 and time.monotonic() < end:
        now = mark(path)
        if now is None or now[1] > 0:
            return now is not None
        time.sleep(_QUIET_SECONDS)
    return True
