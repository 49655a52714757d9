"""The seed's programs, with their import line alone changed, run as scripts: `python chat.py`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients import HEADERS, SECONDS, free_port, talk
from websockets.asyncio.client import ClientConnection, connect

PROGRAMS = Path(__file__).parent / "programs"
NAMES = ["basic", "chat", "session"]


class Program:
    """A program that runs, and serves at `url`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://localhost:{port}"

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
            return await client.get(self.url + path)

    def websocket(self, **options: Any) -> connect:
        return connect(f"ws://localhost:{self.port}/ws", open_timeout=SECONDS, **options)

    async def interrupted(self) -> str:
        """What it says from Ctrl+C to its end."""
        self.process.send_signal(signal.SIGINT)
        said, _ = await asyncio.wait_for(self.process.communicate(), SECONDS * 2)
        return said.decode()


@asynccontextmanager
async def running(path: Path, **env: str) -> AsyncIterator[Program]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(path),
        env={**os.environ, "PORT": str(port), "PYTHONUNBUFFERED": "1", **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), SECONDS * 4)
        assert f"http://localhost:{port}" in line.decode()
        yield Program(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def say(socket: ClientConnection, msg: str) -> None:
    await socket.send(json.dumps({"msg": msg, "HEADERS": HEADERS}))


async def hear(socket: ClientConnection) -> str:
    return str(await asyncio.wait_for(socket.recv(), SECONDS))


@pytest.mark.parametrize("name", NAMES)
def test_the_program_is_the_seeds_but_for_its_import_line(name: str) -> None:
    first, _, rest = (PROGRAMS / f"{name}.py").read_text().partition("\n")
    assert first == "from nbws.common import *"
    assert "import" not in rest
    assert rest.rstrip().endswith("serve()")


def test_basic_serves_its_page_and_greets() -> None:
    async def visit() -> None:
        async with running(PROGRAMS / "basic.py") as program:
            page = (await program.get("/")).text
            assert "<title>Websocket Test</title>" in page
            assert '<div id="notifications"></div>' in page
            assert '<input id="msg" name="msg">' in page
            assert 'hx-ext="ws" ws-connect="/ws"' in page
            for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page):
                assert (await program.get(asset)).status_code == 200
            async with program.websocket() as socket:
                await say(socket, "<world>")
                greeting = '<div id="notifications" hx-swap-oob="true">Hello &lt;world&gt;</div>'
                assert await hear(socket) == greeting

    talk(visit())


def test_two_clients_chat() -> None:
    async def visit() -> None:
        async with running(PROGRAMS / "chat.py") as program:
            async with program.websocket() as ann, program.websocket() as bob:
                await say(ann, "hi")
                for socket in (ann, bob):
                    assert await hear(socket) == '<ul id="msg-list" hx-swap-oob="true"><li>hi</li></ul>'
                await say(bob, "ho")
                for socket in (ann, bob):
                    assert "<li>hi</li><li>ho</li>" in await hear(socket)
                await bob.close()
                await say(ann, "alone")
                assert "<li>alone</li>" in await hear(ann)
            assert "<li>hi</li><li>ho</li><li>alone</li>" in (await program.get("/")).text

    talk(visit())


def test_the_session_of_a_page_is_read_by_the_websocket() -> None:
    async def visit() -> None:
        async with running(PROGRAMS / "session.py") as program:
            login = await program.get("/login")
            assert login.text == "ok"
            cookie = login.headers["set-cookie"].partition(";")[0]
            async with program.websocket(additional_headers={"cookie": cookie}) as socket:
                await say(socket, "!")
                assert ">Hello Bob!<" in await hear(socket)
            async with program.websocket() as stranger:
                await say(stranger, "!")
                assert ">Hello None!<" in await hear(stranger)

    talk(visit())


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send there")
@pytest.mark.parametrize("name", ["basic", "chat"])
def test_ctrl_c_ends_the_program_without_a_traceback(name: str) -> None:
    async def visit() -> None:
        async with running(PROGRAMS / f"{name}.py") as program, program.websocket() as socket:
            await say(socket, "hi")
            await hear(socket)
            said = await program.interrupted()
            assert program.process.returncode in (0, 130, -signal.SIGINT)
            assert "Traceback" not in said
            await asyncio.wait_for(socket.wait_closed(), SECONDS)
            assert socket.close_code == 1012

    talk(visit())


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM to send there")
def test_sigterm_ends_the_program_without_a_traceback() -> None:
    async def visit() -> None:
        async with running(PROGRAMS / "basic.py") as program:
            program.process.terminate()
            said, _ = await asyncio.wait_for(program.process.communicate(), SECONDS * 2)
            assert b"Traceback" not in said
            assert program.process.returncode in (0, 143, -signal.SIGTERM)

    talk(visit())


@pytest.mark.parametrize(
    "code",
    [
        "import basic, chat, session; assert not basic.app.is_running",
        "import runpy; runpy.run_path('chat.py')",
        "import runpy; runpy.run_path('chat.py', run_name='__main__')['app'].stop()",
        "exec(open('chat.py').read(), space := {'__name__': '__main__'}); space['app'].stop()",
    ],
    ids=["imported", "run_path", "run_path as main", "exec"],
)
def test_a_program_does_not_hang_where_another_one_runs_it(code: str) -> None:
    env = {**os.environ, "PORT": str(free_port())}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROGRAMS, env=env, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


def test_a_script_needs_no_port_and_starts_at_5001() -> None:
    async def visit() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAMS / "basic.py"),
            env={k: v for k, v in os.environ.items() if k != "PORT"} | {"PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), SECONDS * 4)).decode()
            (port,) = re.findall(r"http://localhost:(\d+)", line)
            assert 5001 <= int(port) < 5051
            assert "token" not in line
        finally:
            process.kill()
            await process.wait()

    talk(visit())
