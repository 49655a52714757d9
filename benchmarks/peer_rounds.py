"""nbws and its peers, one after the other in each round, with server and clients on cores of their own.

The peers are installed into an environment of their own, `.venv-peers` beside pyproject.toml, with what the extra
`bench` names.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
_ENV = ROOT / ".venv-peers"
_START_SECONDS = 30.0
_RUN_SECONDS = 90.0

Figures = dict[str, float]


def python() -> str:
    """The interpreter of the environment with the peers in it, which is made where it is not there."""
    given = os.environ.get("NBWS_PEERS_PYTHON")  # one that has them already
    if given:
        return given
    found = _ENV / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not found.exists():
        print(f"installing the peers into {_ENV}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(_ENV)], check=True)
    installed = [str(found), "-c", "import fasthtml, htpy, picows, nbws"]
    if subprocess.run(installed, capture_output=True, cwd=HERE).returncode:
        subprocess.run([str(found), "-m", "pip", "install", "-q", "-e", f"{ROOT}[bench]"], check=True)
    return str(found)


@contextlib.contextmanager
def served(peer: str) -> Iterator[tuple[int, int]]:
    """(port, process id) of a server of peers.py on the first core."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python(), str(HERE / "peers.py"), peer, str(port)]
    process = subprocess.Popen([*pinned(0), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{peer} does not listen; run {' '.join(command)} to see why")
            time.sleep(0.02)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def measured(peer: str, what: str, connections: int, amount: int) -> Figures:
    """What peer_client.py finds. A peer that does not end gets one more try: FastHTML stood still once."""
    try:
        return _tried(peer, what, connections, amount)
    except subprocess.TimeoutExpired:
        print(f"{peer} did not end within {_RUN_SECONDS:g} s", flush=True)
        return _tried(peer, what, connections, amount)


def _tried(peer: str, what: str, connections: int, amount: int) -> Figures:
    with served(peer) as (port, pid):
        command = [python(), str(HERE / "peer_client.py"), *map(str, (port, pid, connections, what, amount))]
        done = subprocess.run([*pinned(1), *command], capture_output=True, text=True, timeout=_RUN_SECONDS)
    if done.returncode:
        raise RuntimeError(f"the clients of {peer} failed:\n{done.stderr[-2000:]}")
    found: Figures = json.loads(done.stdout)
    return found


def rounds(peers: Sequence[str], what: str, connections: int, amount: int, count: int) -> dict[str, list[Figures]]:
    """*count* rounds, in each of which every peer has its turn: what disturbs the machine disturbs all of them."""
    found: dict[str, list[Figures]] = {peer: [] for peer in peers}
    for _ in range(count):
        for peer in peers:
            found[peer].append(measured(peer, what, connections, amount))
    return found


def least(figures: Sequence[Figures], name: str) -> float:
    return min(each[name] for each in figures)


def median(figures: Sequence[Figures], name: str) -> float:
    return statistics.median(each[name] for each in figures)


def pinned(core: int) -> list[str]:
    """What a command begins with to run on one core; nothing where that is not to be had."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ["taskset", "-c", str(cores[core])] if len(cores) > core else []
