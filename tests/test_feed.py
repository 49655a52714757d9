"""What a preview is told: the state now and after each change, on few streams."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import count
from typing import Any

from nbws.feed import MAX_STREAMS, Event, Feed

END = "event: end\ndata: {}\n\n"


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def state_of(event: str) -> Any:
    """What an event tells, as a browser's EventSource reads it."""
    assert event.startswith("data: ")
    assert event.endswith("\n\n")
    assert event.count("\n") == 2
    return json.loads(event.removeprefix("data: "))


def counted() -> Feed:
    """A feed whose state is another one each time that it is looked at."""
    states = count()
    return Feed(lambda: next(states))


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
        states = count()

        def state() -> int:
            feed.changed()  # each event is followed by a change
            return next(states)

        feed = Feed(state)
        began = asyncio.get_running_loop().time()
        stream = feed.events()
        for _ in range(6):
            state_of(await anext(stream))
        assert asyncio.get_running_loop().time() - began > 5 / 40

    run(test)


def test_a_change_that_changes_nothing_is_not_told() -> None:
    async def test() -> None:
        state = {"version": 1}
        feed = Feed(lambda: state)
        (stream,) = await opened(feed, 1)
        looked: list[int] = []
        told = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]
        for _ in range(3):
            feed.changed()
            await asyncio.sleep(0.06)  # longer than a stream pauses
            looked.append(told.done())
        state["version"] = 2
        feed.changed()
        assert state_of(await told) == {"version": 2}
        assert looked == [False] * 3

    run(test)


def test_a_stream_has_events_of_its_own() -> None:
    async def test() -> None:
        feed = counted()
        waiting = [Event("page", {"html": "<p>\n</p>"}, id="7")]

        async def own() -> Event | None:
            return waiting.pop() if waiting else None

        stream = feed.events(own)
        assert state_of(await anext(stream)) == 0
        assert await anext(stream) == 'event: page\nid: 7\ndata: {"html": "<p>\\n</p>"}\n\n'
        feed.changed()
        assert state_of(await anext(stream)) == 1

    run(test)


def test_a_change_from_another_thread_is_told() -> None:
    async def test() -> None:
        feed = counted()
        (stream,) = await opened(feed, 1)
        thread = threading.Thread(target=feed.changed)
        thread.start()
        assert state_of(await anext(stream)) == 1
        thread.join()

    run(test)


def test_every_stream_is_told() -> None:
    async def test() -> None:
        feed = counted()
        streams = await opened(feed, MAX_STREAMS)
        feed.changed()
        assert {state_of(await anext(stream)) for stream in streams} == {4, 5, 6, 7}

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
        feed = counted()
        streams = await opened(feed, MAX_STREAMS + 2)
        feed.changed()
        events = [await anext(stream) for stream in streams]
        assert events[:2] == [END, END]
        assert len({state_of(event) for event in events[2:]}) == MAX_STREAMS

    run(test)


def test_a_stream_whose_reader_has_gone_takes_no_room() -> None:
    async def test() -> None:
        feed = counted()
        gone, *others = await opened(feed, MAX_STREAMS)
        await gone.aclose()  # type: ignore[attr-defined]
        others += await opened(feed, 1)
        feed.changed()
        assert len({state_of(await anext(stream)) for stream in others}) == MAX_STREAMS

    run(test)


def test_a_change_after_the_loop_has_been_closed_is_nobodys_problem() -> None:
    feed = Feed(lambda: 0)
    stream = feed.events()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(anext(stream))  # type: ignore[arg-type]
    loop.close()
    feed.changed()
    feed.close()
