"""What a preview is told: the state now and after each change, on few streams."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from nbws.feed import MAX_STREAMS, Feed

END = "event: end\ndata: {}\n\n"


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def state_of(event: str) -> Any:
    """What an event tells, as a browser's EventSource reads it."""
    assert event.startswith("data: ")
    assert event.endswith("\n\n")
    assert event.count("\n") == 2
    return json.loads(event.removeprefix("data: "))


async def opened(feed: Feed, count: int) -> list[AsyncIterator[str]]:
    """Streams that have been told the state once."""
    streams = [feed.events() for _ in range(count)]
    for stream in streams:
        state_of(await anext(stream))
    return streams


def test_a_stream_tells_the_state_at_once_and_after_each_change() -> None:
    async def test() -> None:
        state = {"version": 1}
        feed = Feed(lambda: state)
        stream = feed.events()
        assert state_of(await anext(stream)) == {"version": 1}
        for version in (2, 3):
            state["version"] = version
            feed.changed()
            assert state_of(await anext(stream)) == {"version": version}

    run(test)


def test_text_with_line_ends_is_one_event() -> None:
    async def test() -> None:
        stream = Feed(lambda: {"text": "a\nb\r\n\n<b>ü"}).events()
        assert state_of(await anext(stream)) == {"text": "a\nb\r\n\n<b>ü"}

    run(test)


def test_a_thousand_changes_are_not_a_thousand_events() -> None:
    async def test() -> None:
        versions: list[int] = []
        feed = Feed(lambda: len(versions))
        (stream,) = await opened(feed, 1)
        for version in range(1000):
            versions.append(version)
            feed.changed()
        assert state_of(await anext(stream)) == 1000
        feed.close()
        assert [event async for event in stream] == [END]

    run(test)


def test_changes_without_end_are_some_twenty_events_a_second() -> None:
    async def test() -> None:
        feed = Feed(lambda: feed.changed())  # each event is followed by a change
        began = asyncio.get_running_loop().time()
        stream = feed.events()
        for _ in range(6):
            state_of(await anext(stream))
        assert asyncio.get_running_loop().time() - began > 5 / 40

    run(test)


def test_a_change_from_another_thread_is_told() -> None:
    async def test() -> None:
        feed = Feed(lambda: 0)
        (stream,) = await opened(feed, 1)
        thread = threading.Thread(target=feed.changed)
        thread.start()
        assert state_of(await anext(stream)) == 0
        thread.join()

    run(test)


def test_every_stream_is_told() -> None:
    async def test() -> None:
        feed = Feed(lambda: 0)
        streams = await opened(feed, MAX_STREAMS)
        feed.changed()
        for stream in streams:
            assert state_of(await anext(stream)) == 0

    run(test)


def test_closing_ends_every_stream_and_says_so() -> None:
    async def test() -> None:
        feed = Feed(lambda: 0)
        streams = await opened(feed, 2)
        feed.close()
        for stream in streams:
            assert [event async for event in stream] == [END]

    run(test)


def test_the_streams_opened_first_make_room_for_new_ones() -> None:
    async def test() -> None:
        feed = Feed(lambda: 0)
        streams = await opened(feed, MAX_STREAMS + 2)
        feed.changed()
        events = [await anext(stream) for stream in streams]
        assert events[:2] == [END, END]
        assert [state_of(event) for event in events[2:]] == [0] * MAX_STREAMS

    run(test)


def test_a_stream_whose_reader_has_gone_takes_no_room() -> None:
    async def test() -> None:
        feed = Feed(lambda: 0)
        gone, *others = await opened(feed, MAX_STREAMS)
        await gone.aclose()  # type: ignore[attr-defined]
        others += await opened(feed, 1)
        feed.changed()
        for stream in others:
            assert state_of(await anext(stream)) == 0

    run(test)


def test_a_change_after_the_loop_has_been_closed_is_nobodys_problem() -> None:
    feed = Feed(lambda: 0)
    stream = feed.events()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(anext(stream))  # type: ignore[arg-type]
    loop.close()
    feed.changed()
    feed.close()
