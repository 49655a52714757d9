"""Measures nbws.

    python benchmarks/run.py            all benchmarks, in a quarter of an hour
    python benchmarks/run.py swap-cost  one of them
    python benchmarks/run.py --quick    all in seconds, to see that they work; writes nothing

The peers of nbws are installed into an environment of their own, once. What it finds is printed, and written into
docs/performance.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import broadcast_cost
import busy_cell
import memory_cost
import message_cost
import message_pieces
import swap_cost
import swap_latency
from report import Report, written_into

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

BENCHMARKS: dict[str, Callable[[bool], Report]] = {
    "message-cost": message_cost.measure,
    "message-pieces": message_pieces.measure,
    "broadcast-cost": broadcast_cost.measure,
    "memory-cost": memory_cost.measure,
    "busy-cell": busy_cell.measure,
    "swap-cost": swap_cost.measure,
    "swap-latency": swap_latency.measure,
}
"""Name -> what measures, quickly or not. A name's figures stand between its marks in the page."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="measure little and write nothing")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in options.names or BENCHMARKS:
        print(f"== {name}", flush=True)
        text = str(BENCHMARKS[name](options.quick))
        print(f"\n{text}\n", flush=True)
        if not options.quick:
            PAGE.write_text(written_into(PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")


if __name__ == "__main__":
    main()
