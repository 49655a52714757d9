"""The Python half of *run it here*, on CPython: cells run with no IPython, and clients in the same process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nbws.inpage.cells import bundle_of
from nbws.inpage.host import Host
from nbws.notebook.preview import MIME
from nbws.runs import has_threads

CHAT = """
from nbws.common import *
app = App()

@app.get("/")
def home(): return Titled("Chat", Form(Input(id="msg"), id="form", ws_send=True, hx_ext="ws", ws_connect="/chat"))

@app.ws("/chat")
async def chat(msg: str):
    app.broadcast(P("one: ", msg, id="said"))
"""
EDITED = CHAT.replace("one: ", "two: ")
GREETS = CHAT.replace("    app.broadcast", "    print('heard', msg)\n    app.broadcast")

_pages = itertools.count()


class Page:
    """A page as the script in it sees the host: it hands messages in and awaits what comes out."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self.host = Host(self._post, {"__name__": "__main__"})
        self._id = 0
        self._cells = f"{next(_pages)}-"  # an app is known by its cell, in one process

    def _post(self, message: Any) -> None:
        self.posted.append(dict(message))
        self._came.set()

    async def until(self, fits: Callable[[dict[str, Any]], Any], seconds: float = 10) -> dict[str, Any]:
        """The first message, of all that were posted, that *fits*."""

        async def look() -> dict[str, Any]:
            while True:
                self._came.clear()
                found = next((message for message in self.posted if fits(message)), None)
                if found is not None:
                    return found
                await self._came.wait()

        return await asyncio.wait_for(look(), seconds)

    async def run(self, source: str, cell: str = "a") -> dict[str, Any]:
        """Run a cell, and give what is said at its end, with all that it showed."""
        self.posted = [message for message in self.posted if message["kind"] not in ("ran", "shown")]
        self.host.receive({"kind": "run", "cell": self._cells + cell, "number": 1, "source": source})
        ended = await self.until(lambda message: message["kind"] == "ran")
        return {**ended, "shown": [message for message in self.posted if message["kind"] == "shown"]}

    def ask(self, kind: str, path: str, client: str = "1", **more: Any) -> int:
        self._id += 1
        message = {"kind": kind, "id": self._id, "client": client, "app": None, "path": path, "headers": []}
        self.host.receive({**message, **more})
        return self._id

    async def get(self, path: str, client: str = "1", **more: Any) -> tuple[int, str]:
        id = self.ask("request", path, client, **{"method": "GET", "data": None, **more})
        await self.until(lambda message: message["kind"] == "end" and message["id"] == id)
        mine = [message for message in self.posted if message.get("id") == id]
        body = b"".join(message["data"] for message in mine if message["kind"] == "body")
        return mine[0]["status"], body.decode()

    async def connected(self, path: str, client: str = "1") -> int:
        id = self.ask("connect", path, client)
        await self.until(lambda message: message["kind"] in ("open", "closed") and message["id"] == id)
        return id

    def say(self, id: int, text: str) -> None:
        self.host.receive({"kind": "send", "id": id, "data": text})

    async def heard(self, id: int, count: int) -> list[str]:
        """The first *count* fragments of a websocket."""
        await self.until(lambda _: len(self._fragments(id)) >= count)
        return self._fragments(id)

    def _fragments(self, id: int) -> list[str]:
        return [m["data"] for m in self.posted if m["kind"] == "message" and m["id"] == id]


@asynccontextmanager
async def a_page() -> AsyncIterator[Page]:
    page = Page()
    with page.host.present():
        try:
            yield page
        finally:
            await page.host.clients.stop()


def in_page(test: Callable[[Page], Awaitable[None]]) -> Callable[[], None]:
    """Run *test* with a page of its own."""

    def run() -> None:
        async def main() -> None:
            async with a_page() as page:
                await test(page)

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_page
async def test_two_clients_chat(page: Page) -> None:
    assert (await page.run(CHAT))["ok"]
    one, two = await page.connected("/chat", "1"), await page.connected("/chat", "2")
    page.say(one, '{"msg": "<hi>"}')
    expected = '<p id="said" hx-swap-oob="true">one: &lt;hi&gt;</p>'
    assert await page.heard(one, 1) == await page.heard(two, 1) == [expected]


@in_page
async def test_a_cell_run_again_swaps_under_open_connections(page: Page) -> None:
    await page.run(CHAT)
    id = await page.connected("/chat")
    page.say(id, '{"msg": "a"}')
    await page.heard(id, 1)
    assert (await page.run(EDITED))["ok"]
    page.say(id, '{"msg": "b"}')
    assert [each.partition(">")[2] for each in await page.heard(id, 2)] == ["one: a</p>", "two: b</p>"]
    assert not [message for message in page.posted if message["kind"] == "closed"]
    (app,) = page.host.cells.apps
    assert app.endpoints["/chat"].version == 2


@in_page
async def test_a_cell_that_fails_changes_nothing_and_shows_where(page: Page) -> None:
    await page.run(CHAT)
    id = await page.connected("/chat")
    ended = await page.run(EDITED + "\n1 / 0\n")
    assert not ended["ok"]
    (error,) = ended["shown"]
    assert error["title"] == "ZeroDivisionError: division by zero"
    assert "<cell 1, run 2>" in error["text"]
    assert "1 / 0" in error["text"]
    assert "nbws/inpage" not in error["text"]
    page.say(id, '{"msg": "a"}')
    assert "one: a" in (await page.heard(id, 1))[0]


@in_page
async def test_a_route_that_its_cell_defines_no_more_is_gone(page: Page) -> None:
    await page.run(CHAT)
    assert (await page.get("/"))[0] == 200
    await page.run(CHAT.replace('@app.get("/")\n', ""))
    assert (await page.get("/"))[0] == 404


@in_page
async def test_the_page_is_the_one_that_a_client_gets(page: Page) -> None:
    await page.run(CHAT)
    (app,) = page.host.cells.apps
    status, text = await page.get("/")
    answer = await app.client().get("/")
    assert (status, text) == (answer.status_code, answer.text)


@in_page
async def test_a_form_is_posted_and_redirects_are_followed(page: Page) -> None:
    await page.run(
        """
from nbws.common import *
app = App()
@app.post("/say")
def say(msg: str, session):
    session["msg"] = msg
    return Redirect("/said")
@app.get("/said")
def said(session): return P(session["msg"])
"""
    )
    headers = [("Content-Type", "application/x-www-form-urlencoded")]
    status, text = await page.get("/say", method="POST", data=b"msg=hello", headers=headers)
    assert status == 200
    assert "<p>hello</p>" in text
    head = next(message for message in page.posted if message["kind"] == "head")
    assert head["url"] == "/said"
    assert "set-cookie" not in dict(head["headers"])
    assert "hello" not in (await page.get("/said", "another browser"))[1]


@in_page
async def test_def_handlers_and_generators_run_with_no_thread(page: Page) -> None:
    assert not has_threads()
    await page.run(
        """
from nbws.common import *
import threading
app = App()
@app.ws("/ws")
def count(n: int):
    for i in range(n):
        yield P(i, threading.active_count(), id="i")
"""
    )
    id = await page.connected("/ws")
    page.say(id, '{"n": 3}')
    numbers = [each.partition(">")[2] for each in await page.heard(id, 3)]
    assert len({each.removesuffix("</p>")[1:] for each in numbers}) == 1
    assert [each[0] for each in numbers] == ["0", "1", "2"]


@in_page
async def test_showing_the_app_asks_the_page_for_its_clients(page: Page) -> None:
    ended = await page.run(CHAT + "\napp.preview('/', clients=2)")
    (shown,) = ended["shown"]
    assert shown["data"][MIME] == {"app": ended["own"], "path": "/", "clients": 2, "height": None}
    ended = await page.run("app", "b")
    assert ended["shown"][0]["data"][MIME]["clients"] == 1


@in_page
async def test_serve_start_and_url_need_no_port(page: Page) -> None:
    ended = await page.run(CHAT + "\napp.start()\nserve()\nprint(app.url)")
    assert ended["ok"]
    assert "".join(each["text"] for each in ended["shown"]) == "http://testserver\n"


@in_page
async def test_what_a_cell_prints_is_its_own_and_what_a_handler_prints_is_the_handlers(page: Page) -> None:
    ended = await page.run(GREETS + "\nprint('defined')")
    assert "".join(each["text"] for each in ended["shown"]) == "defined\n"
    id = await page.connected("/chat")
    page.say(id, '{"msg": "a"}')
    await page.heard(id, 1)
    (app,) = page.host.cells.apps
    (said,) = app.said
    assert (said.text, said.speaker.handler) == ("heard a\n", "chat")
    assert len([message for message in page.posted if message["kind"] == "shown"]) == len(ended["shown"])


@in_page
async def test_a_task_goes_on_to_print_under_its_cell(page: Page) -> None:
    source = "import asyncio\nasync def later():\n    await gate.wait()\n    print('later')\n"
    await page.run(f"{source}gate = asyncio.Event()\ntask = asyncio.create_task(later())")
    await page.run("gate.set()", "b")
    shown = await page.until(lambda message: message["kind"] == "shown" and message["text"] == "later")
    assert shown["cell"].endswith("-a")


@in_page
async def test_the_feed_tells_versions_and_errors(page: Page) -> None:
    await page.run(CHAT.replace("app.broadcast", "1 / 0; app.broadcast"))
    feed = page.ask("request", "/_nbws/feed", "the page", method="GET", data=None)
    id = await page.connected("/chat")
    page.say(id, '{"msg": "a"}')
    told = await page.until(lambda m: m.get("id") == feed and b"ZeroDivisionError" in m.get("data", b""))
    assert b'"path": "/chat", "version": 1' in told["data"]
    page.host.receive({"kind": "abort", "id": feed})
    await page.until(lambda m: m.get("id") == feed and m["kind"] == "end")


@in_page
async def test_a_cell_awaits_and_its_last_expression_is_shown(page: Page) -> None:
    await page.run(CHAT)
    ended = await page.run(
        "async with app.client().ws('/chat') as visitor:\n    said = await visitor.ask(msg='a')\nsaid", "b"
    )
    assert ended["shown"][0]["data"]["text/html"] == '<p id="said" hx-swap-oob="true">one: a</p>'
    assert not (await page.run("said;", "b"))["shown"]


@in_page
async def test_a_ws_magic_makes_a_handler_and_another_magic_says_what_to_do(page: Page) -> None:
    await page.run("%load_ext nbws\nfrom nbws.common import *\napp = App()")
    assert (await page.run("%%ws /up text: str\nP(text.upper(), id='up')", "b"))["ok"]
    id = await page.connected("/up")
    page.say(id, '{"text": "a"}')
    assert ">A</p>" in (await page.heard(id, 1))[0]
    ended = await page.run("%matplotlib inline\n1", "c")
    assert "`%matplotlib inline` is for IPython" in ended["shown"][0]["title"]


@in_page
async def test_tasks_run_while_a_client_is_there(page: Page) -> None:
    await page.run(CHAT + "\n@app.task(every=0.01)\nasync def tick(app): app.broadcast(P('tick', id='tick'))")
    id = await page.connected("/chat")
    assert ">tick</p>" in (await page.heard(id, 1))[0]
    page.host.receive({"kind": "close", "id": id, "code": 1000})
    await page.until(lambda message: message["kind"] == "closed" and message["id"] == id)
    (app,) = page.host.cells.apps
    await page.host.clients.stop()
    assert app.visits.loop is None


@in_page
async def test_what_is_not_there_is_answered(page: Page) -> None:
    status, text = await page.get("/")
    assert status == 503
    assert "No cell that has run has made an App" in text
    id = await page.connected("/chat")
    closed = next(message for message in page.posted if message["kind"] == "closed" and message["id"] == id)
    assert closed["code"] == 1006
    await page.run(CHAT)
    assert (await page.get("/nowhere"))[0] == 404
    page.say(99, "to nobody")


@in_page
async def test_a_module_that_the_page_does_not_have_is_told_with_what_to_do(page: Page) -> None:
    ended = await page.run("import no_such_module")
    assert "No module named no_such_module: the page was made without it" in ended["shown"][0]["title"]


@in_page
async def test_a_blocking_client_says_that_it_cannot_wait_for_its_own_loop(page: Page) -> None:
    await page.run(CHAT)
    ended = await page.run("app.client(sync=True).get('/')", "b")
    assert "await app.client()'s" in ended["shown"][0]["title"]


@in_page
async def test_an_app_run_again_is_the_same_app(page: Page) -> None:
    await page.run(CHAT)
    await page.run(CHAT)
    assert len(page.host.cells.apps) == 1
    await page.run("other = App()", "b")
    assert len(page.host.cells.apps) == 2


@in_page
async def test_a_warning_is_told(page: Page) -> None:
    await page.run(CHAT.replace('id="said"', 'cls="said"'))
    id = await page.connected("/chat")
    page.say(id, '{"msg": "a"}')
    told = await page.until(lambda message: message["kind"] == "told")
    assert "/chat" in told["text"]


def test_what_is_shown_is_said_by_type() -> None:
    class Picture:
        def _repr_png_(self) -> bytes:
            return b"\x89PNG"

    assert bundle_of(Picture())["image/png"] == "iVBORw=="
    assert bundle_of(3) == {"text/plain": "3"}


def test_threads_are_back_when_the_page_is_closed() -> None:
    before = has_threads()

    async def main() -> None:
        async with a_page():
            assert not has_threads()

    asyncio.run(main())
    assert has_threads() == before


def test_a_stream_of_events_is_handed_on_as_it_comes() -> None:
    source = """
from nbws.common import *
import asyncio
app = App()
@app.get("/events")
async def events():
    async def each():
        yield "data: 1\\n\\n"
        await asyncio.Event().wait()
    return EventStream(each())
"""

    async def main() -> None:
        async with a_page() as page:
            await page.run(source)
            id = page.ask("request", "/events", method="GET", data=None)
            await page.until(lambda message: message.get("data") == b"data: 1\n\n")
            page.host.receive({"kind": "abort", "id": id})
            await page.until(lambda message: message["kind"] == "end" and message["id"] == id)

    asyncio.run(main())


if __name__ == "__main__":
    pytest.main([__file__, "-q"])
