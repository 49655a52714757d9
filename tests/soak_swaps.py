"""Ten thousand swaps under 200 connections that send 2,000 messages a second.

    python tests/soak_swaps.py                  about a minute
    python tests/soak_swaps.py --swaps 1000

Nothing is lost, doubled, reordered, handled by two versions, or by an older one after a newer one; and 99 of 100
messages are answered within 150 ms. The clients are another process, and the swaps come as fast as each new handler
takes up its first message.
"""

from __future__ import annotations

import argparse
import time

from load import swap_under_load
from soak import Promises

P99_MS = 150.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--rate", type=float, default=2000.0, help="messages a second")
    parser.add_argument("--every", type=float, default=0.004, help="seconds between two swaps, at the least")
    options = parser.parse_args()
    begun = time.monotonic()
    found = swap_under_load(options.swaps, options.connections, options.rate, options.every)
    seconds = time.monotonic() - begun
    print(f"{found['messages'] / seconds:,.0f} messages and {options.swaps / seconds:,.0f} swaps a second: {found}")
    promises = Promises()
    promises.equal("lost, doubled, reordered, mixed, backward", found["wrong"], {})
    promises.equal("versions that answered", found["seen"], options.swaps)
    promises.equal("the version that answers in the end", found["last"], [options.swaps])
    promises.at_most("p99 of an answer", found["p99_ms"], P99_MS, " ms")
    promises.exit()


if __name__ == "__main__":
    main()
