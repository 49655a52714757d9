"""Autobahn's websocket suite, some 250 cases of RFC 6455, against nbws's websocket class and against bare uvicorn.

    python tests/soak_autobahn.py                    all cases but those of compression, in some minutes
    python tests/soak_autobahn.py --cases '1.*' '7.*'

No case may be worse with nbws than without. The suite is on PyPI and needs Python 2.7, which is looked for in
NBWS_PYTHON27, on PATH and in ~/.pyenv; it is installed into .autobahn beside dev.py. Where it cannot be installed the
check says that it was skipped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from soak import Promises

from nbws import Limits
from nbws.server import Server, bind

ENVIRONMENT = Path(__file__).parent.parent / ".autobahn"
SUITE = "autobahntestsuite==25.10.1"
RUN = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()"
MESSAGE_BYTES = 64 * 1024 * 1024  #: the suite's largest messages have 16 MiB
GRADES = ("OK", "INFORMATIONAL", "NON-STRICT", "UNCLEAN", "WRONG CODE", "UNIMPLEMENTED", "FAILED")
"""Verdicts of the suite, from the best; one that is not here is worse than all."""


def python27() -> str | None:
    """A Python 2.7 with pip; None where there is none."""
    versions = sorted(Path.home().glob(".pyenv/versions/2.7.*/bin/python"))
    for found in (os.environ.get("NBWS_PYTHON27"), shutil.which("python2.7"), *map(str, versions)):
        if found and subprocess.run([found, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return found
    return None


def installed() -> list[str] | None:
    """The suite's command, installed first where it is not; None where that is not possible, after saying why."""
    python = python27()
    if python is None:
        print("skipped: the suite needs Python 2.7 with pip; name one in NBWS_PYTHON27")
        return None
    command = [python, "-c", RUN, str(ENVIRONMENT)]
    if subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
        return command
    print(f"installing {SUITE} into {ENVIRONMENT} ...", flush=True)
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(ENVIRONMENT), SUITE]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"skipped: the suite cannot be installed here: {done.stderr.strip()[-500:]}")
        return None
    return command


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI app that the suite wants: says what it is told."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


@contextmanager
def nbws_server() -> Iterator[int]:
    """The port of nbws's server around the echo."""
    limits = Limits(message_bytes=MESSAGE_BYTES)
    server = Server(
        echo,
        bind("127.0.0.1", 0, exact=True),
        host="127.0.0.1",
        limits=limits,
        startup_error=lambda: None,
        on_stop=lambda: None,
    )
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


@contextmanager
def bare_uvicorn() -> Iterator[int]:
    """The port of uvicorn's own server around the echo."""
    sock = bind("127.0.0.1", 0, exact=True)
    config = uvicorn.Config(
        echo, ws_max_size=MESSAGE_BYTES, ws_per_message_deflate=False, log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])), daemon=True)
    thread.start()
    try:
        yield int(sock.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)


def verdicts(command: list[str], ports: dict[str, int], cases: list[str], seconds: float) -> dict[str, dict[str, str]]:
    """Agent -> case -> the worse of the suite's verdicts on what it did and on how it closed."""
    with tempfile.TemporaryDirectory() as folder:
        servers = [{"agent": agent, "url": f"ws://127.0.0.1:{port}"} for agent, port in ports.items()]
        spec = {
            "outdir": f"{folder}/reports",
            "servers": servers,
            "cases": cases,
            "exclude-cases": ["12.*", "13.*"],  # compression, which both leave out here
            "exclude-agent-cases": {},
        }
        (Path(folder) / "spec.json").write_text(json.dumps(spec))
        subprocess.run(
            [*command, "-m", "fuzzingclient", "-s", f"{folder}/spec.json"],
            check=True,
            timeout=seconds,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        index = json.loads((Path(folder) / "reports" / "index.json").read_text())
    return {
        agent: {case: max(found["behavior"], found["behaviorClose"], key=grade) for case, found in found_in.items()}
        for agent, found_in in index.items()
    }


def grade(verdict: str) -> int:
    return GRADES.index(verdict) if verdict in GRADES else len(GRADES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["*"], help="such as '6.*'")
    parser.add_argument("--seconds", type=float, default=900.0, help="after which it is given up")
    options = parser.parse_args()
    command = installed()
    if command is None:
        sys.exit(0)
    with ExitStack() as stack:
        ports = {"uvicorn": stack.enter_context(bare_uvicorn()), "nbws": stack.enter_context(nbws_server())}
        found = verdicts(command, ports, options.cases, options.seconds)
    for agent, cases in found.items():
        print(f"{agent}: {len(cases)} cases, {dict(Counter(cases.values()))}")
    theirs, ours = found["uvicorn"], found["nbws"]
    worse = {case: f"{theirs[case]} -> {ours[case]}" for case in theirs if grade(ours[case]) > grade(theirs[case])}
    better = {case: f"{theirs[case]} -> {ours[case]}" for case in theirs if grade(ours[case]) < grade(theirs[case])}
    if better:
        print(f"better than uvicorn: {better}")
    promises = Promises()
    promises.equal("cases that are worse than with bare uvicorn", worse, {})
    promises.equal("cases of both", ours.keys() == theirs.keys() and len(ours) > 0, True)
    promises.exit()


if __name__ == "__main__":
    main()
