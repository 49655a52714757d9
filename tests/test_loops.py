"""Handlers on the kernel's loop, in a real kernel: what each choice means while a cell runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from kernel import Kernel

from nbws import App, DefinitionError, NbwsError
from nbws.loops import on

SETUP = """
%reset -f
from nbws.common import *
from nbws import App
import threading, time, asyncio
main = threading.main_thread()
app = App({options})

@app.ws('/where', conn=lambda ws: ws.state.update(conn=threading.current_thread() is main))
async def where(text: str, ws):
    await asyncio.sleep(0)
    return P('main' if threading.current_thread() is main else 'other', ws.state.conn, id='out')

@app.ws('/plain')
def plain(text: str):
    return P('main' if threading.current_thread() is main else 'other', id='out')

@app.ws('/stream')
def stream(n: int):
    for each in range(n):
        yield P(each, threading.current_thread() is main, id='out')

@app.ws('/astream')
async def astream(n: int, send):
    await send(P('begins', id='out'))
    for each in range(n):
        yield P(each, threading.current_thread() is main, id='out')

@app.ws('/fails')
async def fails(text: str):
    if text == 'exit':
        raise SystemExit(3)
    raise ValueError(text)

@app.get('/page')
def page():
    return P('main' if threading.current_thread() is main else 'other')
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        yield kernel


@pytest.fixture(params=["not started", "served"])
def on_kernel(kernel: Kernel, request: pytest.FixtureRequest) -> Kernel:
    kernel.check("setup", SETUP.format(options=f"{request.node.name!r}, loop='kernel'"))
    if request.param == "served":
        kernel.check("start", "app.start()")
    return kernel


def asked(kernel: Kernel, path: str, count: int = 1, **fields: object) -> list[str]:
    """What a blocking client of a cell hears."""
    source = f"""
with app.client(sync=True) as client, client.ws({path!r}) as visitor:
    visitor.send(**{fields!r})
    for _ in range({count}):
        print(visitor.receive())
"""
    return kernel.check("ask", source).stdout.split("\n")[:-1]


def test_handlers_run_in_the_main_thread_and_a_cell_that_waits_lets_them(on_kernel: Kernel) -> None:
    assert asked(on_kernel, "/where", text="x") == ['<p id="out" hx-swap-oob="true">mainTrue</p>']
    assert asked(on_kernel, "/plain", text="x") == ['<p id="out" hx-swap-oob="true">main</p>']
    assert "0True" in asked(on_kernel, "/stream", 2, n=2)[0]
    assert "1True" in asked(on_kernel, "/astream", 3, n=2)[2]
    page = on_kernel.check("page", "with app.client(sync=True) as client: print(client.get('/page').text)").stdout
    assert "main" in page


def test_a_cell_that_awaits_lets_them_run_too(on_kernel: Kernel) -> None:
    source = "async with app.client().ws('/where') as v:\n    await v.send(text='x')\n    print(await v.receive())"
    assert "mainTrue" in on_kernel.check("ask", source).stdout


def test_what_they_raise_ends_neither_the_connection_nor_the_kernel(on_kernel: Kernel) -> None:
    source = """
with app.client(sync=True) as client, client.ws('/fails') as visitor:
    for text in ('exit', 'no'):
        visitor.send(text=text)
    while len(app.errors) < 2:
        await asyncio.sleep(0.01)
    print([type(each.exception).__name__ for each in app.errors], visitor.send(text='again'))
"""
    assert on_kernel.check("ask", source).stdout.strip() == "['SystemExit', 'ValueError'] None"


def test_while_a_cell_runs_they_wait_and_those_on_the_servers_thread_do_not(kernel: Kernel) -> None:
    kernel.check("setup", SETUP.format(options="'both'"))
    kernel.check(
        "more",
        """
heard = []

@app.ws('/kernel', loop='kernel')
async def in_kernel(text: str):
    heard.append('kernel')

@app.ws('/server')
async def in_server(text: str):
    heard.append('server')
app.start()
""",
    )
    kernel.check(
        "ask",
        """
from websockets.sync.client import connect
url = app.url.replace('http', 'ws') + '{}?token=' + app.token
one, two = connect(url.format('/kernel')), connect(url.format('/server'))
one.send('{"text": "x"}')
two.send('{"text": "x"}')
while not heard: time.sleep(0.01)
time.sleep(0.2)
print(heard)
""",
    )
    assert kernel.check("look", "print(heard); one.close(); two.close()").stdout.strip() == "['server', 'kernel']"


def test_a_swap_hook_runs_there_too_and_the_swap_is_as_ever(on_kernel: Kernel) -> None:
    define = """
def migrate(ws, state, old, new):
    state.moved = threading.current_thread() is main

@app.ws('/swap', swap=migrate)
async def swapped(text: str, ws):
    return P({what}, ws.state.get('moved'), id='out')
"""
    on_kernel.check("swap", define.format(what="'one'"))
    on_kernel.check("open", "client = app.client(); v = await client.connect('/swap'); print(await v.ask(text='x'))")
    on_kernel.check("swap", define.format(what="'two'"))
    assert "twoTrue" in on_kernel.check("ask", "print(await v.ask(text='x')); await v.close()").stdout


def test_stopping_in_a_cell_waits_for_what_runs_there(kernel: Kernel) -> None:
    kernel.check("setup", SETUP.format(options="'stops', loop='kernel'"))
    source = """
@app.ws('/slow')
async def slow(text: str):
    await asyncio.sleep(0.3)
    return P('done', id='out')

app.start()
from websockets.sync.client import connect
socket = connect(app.url.replace('http', 'ws') + '/slow?token=' + app.token)
socket.send('{"text": "x"}')
await asyncio.sleep(0.1)
began = time.monotonic()
app.stop()
print(socket.recv(), time.monotonic() - began < 4)
"""
    assert kernel.check("stop", source).stdout.strip().endswith('<p id="out" hx-swap-oob="true">done</p> True')


def test_outside_of_a_notebook_it_is_the_servers_loop_and_another_name_is_refused() -> None:
    App(loop="kernel")
    with pytest.raises(DefinitionError, match="'main' is no loop; there is 'server'"):
        App(loop="main")
    with pytest.raises(DefinitionError, match="'main' is no loop"):
        App().ws("/ws", loop="main")  # type: ignore[arg-type]


def test_work_on_another_loop_is_cancelled_with_its_caller_and_keeps_what_it_raises() -> None:
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    begun, cancelled = threading.Event(), threading.Event()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def leaves() -> None:
        raise SystemExit(3)

    async def run() -> None:
        with pytest.raises(SystemExit):
            await on(other, leaves())
        task = asyncio.create_task(on(other, waits()))
        await asyncio.to_thread(begun.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(cancelled.wait, 5)

    asyncio.run(asyncio.wait_for(run(), 20))
    other.call_soon_threadsafe(other.stop)
    thread.join(5)
    other.close()

    async def late() -> None:
        with pytest.raises(NbwsError, match="has been closed"):
            await on(other, waits())

    asyncio.run(late())
