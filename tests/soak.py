"""What the soaks share. A soak is a program that lasts, `python tests/soak_NAME.py`, and ends with 1 where a promise of
nbws is broken; `pytest` does not run it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

__all__ = ["PROGRAM_SECONDS", "Program", "Promises", "percentile", "running_program"]

PROGRAM = Path(__file__).parent / "soak_program.py"
PROGRAM_SECONDS = 30.0  #: how long a program has to start, or to answer a question


class Promises:
    """Figures that are held against what nbws promises. `kept` is whether all were."""

    def __init__(self) -> None:
        self.kept = True

    def at_most(self, what: str, measured: float, limit: float, unit: str = "") -> None:
        self._hold(f"{what}: {measured:,.1f}{unit}, at most {limit:,g}{unit}", measured <= limit)

    def equal(self, what: str, measured: object, expected: object) -> None:
        self._hold(f"{what}: {measured}, to be {expected}", measured == expected)

    def _hold(self, text: str, is_kept: bool) -> None:
        self.kept = self.kept and is_kept
        print(f"{'kept  ' if is_kept else 'BROKEN'}  {text}", flush=True)

    def exit(self) -> None:
        sys.exit(0 if self.kept else 1)


class Program:
    """The running program of soak_program.py. `url` and `port` are where it listens."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process = process
        self._errors = errors
        self._memory = psutil.Process(process.pid)
        self.port: int = self._answer()
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, question: str, *arguments: Any) -> Any:
        """What the program's function *question* returns."""
        assert self._process.stdin is not None
        print(json.dumps([question, *arguments]), file=self._process.stdin, flush=True)
        return self._answer()

    def memory(self) -> float:
        """Megabytes that it holds now."""
        return float(self._memory.memory_info().rss) / 1e6

    def cpu_seconds(self) -> float:
        times = self._memory.cpu_times()
        return float(times.user + times.system)

    @property
    def errors(self) -> str:
        """What it has written to stderr."""
        return self._errors.read_text(errors="replace")

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program has ended: {self.errors[-2000:]}")
        return json.loads(line)


@contextlib.contextmanager
def running_program(library: str, **limits: Any) -> Iterator[Program]:
    """The program of soak_program.py on *library*, "nbws" or "fasthtml", in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "stderr"
        command = [sys.executable, str(PROGRAM), library, json.dumps(limits)]
        with (
            errors.open("w") as stderr,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            ) as process,
        ):
            try:
                yield Program(process, errors)
            finally:
                process.kill()


def percentile(values: list[float], percent: float) -> float:
    """The least of *values* that *percent* of them do not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)] if ordered else 0.0


def milliseconds_since(ns: int) -> float:
    """On the clock that all processes of a machine share."""
    return (time.monotonic_ns() - ns) / 1e6
