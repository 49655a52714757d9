"""An interrupt waits until what must not be left half done is done."""

from __future__ import annotations

import signal
import threading

import pytest

from nbws import App
from nbws.common import P
from nbws.interrupts import held_back


def test_an_interrupt_is_raised_when_the_block_has_ended() -> None:
    done = []

    def work() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            done.append(1)
        done.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_it_may_be_forgotten() -> None:
    with held_back(forgotten=True):
        signal.raise_signal(signal.SIGINT)


def test_blocks_nest() -> None:
    done = []

    def work() -> None:
        with held_back():
            with held_back():
                signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]


def test_an_error_in_the_block_passes_through() -> None:
    with pytest.raises(RuntimeError), held_back():
        raise RuntimeError


def test_other_threads_are_not_interrupted_anyway() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_an_app_that_is_interrupted_while_it_publishes_has_published_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    app.ws("/ws")(lambda: P("one"))
    told = []
    monkeypatch.setattr(app.tasks, "look_again", lambda: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(app.feed, "changed", lambda: told.append(app.endpoints["/ws"].version))
    with pytest.raises(KeyboardInterrupt):
        app.ws("/ws")(lambda: P("two"))
    assert app.endpoints["/ws"].version == 2
    assert told == [2]
