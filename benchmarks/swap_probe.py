"""Takes the times of swaps, inside the kernel. A cell of the benchmark makes one `Probe`.

All times are of `time.perf_counter_ns`: one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any


class Probe:
    """Of each version: when its cell ended, what publishing it took, and when its first message was taken up.

    To be made before the kernel's first App, with `listen_after_nbws` called after it: the two hooks that it registers
    stand around nbws's own, which publishes.
    """

    def __init__(self, shell: Any) -> None:
        self._events = shell.events
        self._events.register("post_run_cell", self._before_nbws)
        self._swaps: dict[int, dict[str, int]] = {}
        self._newest = 0  # that has taken up a message
        self._ending: dict[str, int] | None = None  # the swap whose cell has ended and is not published yet
        self._publishing_since = (0, 0)
        self._taken_up = threading.Event()

    def listen_after_nbws(self) -> None:
        self._events.register("post_run_cell", self._after_nbws)

    def cell_ends(self, version: int) -> None:
        """To be called by the last line of a cell that defines *version*."""
        self._taken_up.clear()
        self._ending = self._swaps[version] = {"migrations": 0}
        self._ending["cell_end"] = time.perf_counter_ns()

    def _before_nbws(self, _: Any) -> None:
        self._publishing_since = (time.perf_counter_ns(), time.thread_time_ns())

    def _after_nbws(self, _: Any) -> None:
        swap, self._ending = self._ending, None
        if swap is not None:
            since, cpu_since = self._publishing_since
            swap["publish_time"] = time.perf_counter_ns() - since
            swap["publish_cpu"] = time.thread_time_ns() - cpu_since

    def message(self, version: int) -> None:
        """To be called by the first line of a handler of *version*."""
        if version > self._newest:
            self._swaps[version]["first_message"] = time.perf_counter_ns()
            self._newest = version
            self._taken_up.set()

    def migration(self, version: int) -> None:
        """To be called by the first line of a swap hook to *version*."""
        swap = self._swaps[version]
        swap["last_migration"] = time.perf_counter_ns()
        swap["migrations"] += 1

    def wait(self, migrations: int, seconds: float = 20.0) -> None:
        """Wait until the last version has taken up a message, and made so many *migrations*. Raises TimeoutError."""
        end = time.monotonic() + seconds
        if not self._taken_up.wait(seconds):
            raise TimeoutError(f"no message reached v{max(self._swaps)} in {seconds:g} s")
        swap = self._swaps[self._newest]
        while swap["migrations"] < migrations:
            if time.monotonic() > end:
                raise TimeoutError(f"{swap['migrations']} of {migrations} connections were migrated in {seconds:g} s")
            time.sleep(0.002)

    def report(self) -> None:
        """Print all, as JSON."""
        print(json.dumps(self._swaps))
