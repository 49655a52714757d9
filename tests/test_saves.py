"""When a file counts as saved. The files are real, and so is what the system says of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from nbws.saves import Mark, mark, saves

SECONDS = 5.0


class Watch:
    """Files that are watched by another thread, which reads each as soon as it is saved."""

    def __init__(self, *paths: Path) -> None:
        self.files: dict[Path, Mark | None] = {path: mark(path) for path in paths}
        self.seen: SimpleQueue[tuple[str, ...]] = SimpleQueue()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        for saved in saves(lambda: self.files, self.stop):
            for path in saved:
                self.files[path] = mark(path)
            self.seen.put(tuple(path.read_text() for path in saved))

    def next(self) -> tuple[str, ...]:
        """What the files hold that were saved next."""
        return self.seen.get(timeout=SECONDS)

    def wait_for(self, text: str) -> None:
        while text not in self.next():
            pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "web.py"
    path.write_text("one")
    return path


@pytest.fixture
def watch(path: Path) -> Iterator[Watch]:
    watch = Watch(path)
    yield watch
    watch.stop.set()
    watch.thread.join(SECONDS)
    assert not watch.thread.is_alive()


def test_a_file_that_is_written_is_saved(watch: Watch, path: Path) -> None:
    path.write_text("two")
    watch.wait_for("two")
    path.write_text("three")
    watch.wait_for("three")


def test_a_file_that_another_one_is_renamed_to_is_saved(watch: Watch, path: Path) -> None:
    for text in ("two", "three"):
        other = path.with_name("web.py.tmp")
        other.write_text(text)
        os.replace(other, path)
        watch.wait_for(text)


def test_a_file_that_goes_and_comes_again_is_saved(watch: Watch, path: Path) -> None:
    path.unlink()
    path.with_name("other").write_text("x")  # something happens, and the file is not there
    path.write_text("two")
    watch.wait_for("two")


def test_of_several_saves_in_a_row_the_last_one_is_seen(watch: Watch, path: Path) -> None:
    for number in range(50):
        path.write_text(str(number))
    watch.wait_for("49")
    assert watch.seen.empty()


def test_a_file_that_an_editor_empties_first_is_not_saved_before_it_is_filled(watch: Watch, path: Path) -> None:
    with path.open("w") as file:
        path.with_name("other").write_text("x")
        assert watch.seen.empty()
        file.write("two")
    assert watch.next() == ("two",)


def test_a_file_that_stays_empty_is_saved_after_a_while(watch: Watch, path: Path) -> None:
    path.write_text("")
    assert watch.next() == ("",)


def test_a_file_is_watched_from_when_it_is_asked_for_on_in_whatever_folder(watch: Watch, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    helper = folder / "helper.py"
    helper.write_text("one")
    watch.files = {**watch.files, helper: mark(helper)}
    helper.write_text("two")
    watch.wait_for("two")
    helper.write_text("three")
    watch.wait_for("three")


def test_a_folder_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "late" / "web.py"
    watch = Watch(path)
    try:
        path.parent.mkdir()
        path.write_text("late")
        watch.wait_for("late")
    finally:
        watch.stop.set()
        watch.thread.join(SECONDS)


def test_a_mark_is_of_one_state_of_a_file(path: Path) -> None:
    before = mark(path)
    assert mark(path) == before
    os.utime(path, ns=(0, 1))
    assert mark(path) != before
    path.unlink()
    assert mark(path) is None


def test_without_watchfiles_it_says_what_to_install() -> None:
    code = (
        "import sys, threading; sys.modules['watchfiles'] = None\n"
        "from nbws.saves import saves\n"
        "try: next(saves(dict, threading.Event()))\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert "NbwsError" in done.stdout
    assert "pip install 'nbws[watch]'" in done.stdout
