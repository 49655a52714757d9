"""A thousand random cuts of connections that are in use, by twelve clients at once.

    python tests/soak_cuts.py           about a minute
    python tests/soak_cuts.py 7         the one with seed 7 again, as far as a network can be repeated

A proxy resets, ends, delays and splits what goes through it, or holds it up with the connection left open. All that
each client got is compared with what was put into the outbox of its connection, and what handlers got with what was
said.
"""

from __future__ import annotations

import argparse
import random

import pytest
from cuts import run_cuts
from soak import Promises

CUTS, CLIENTS = 1000, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(10**6))
    seed = parser.parse_args().seed
    print(f"== {CUTS} cuts, {CLIENTS} clients, seed {seed}", flush=True)
    promises = Promises()
    with pytest.MonkeyPatch.context() as patch:
        try:
            print(run_cuts(patch, cuts=CUTS, clients=CLIENTS, seed=seed, seconds=150))
        except AssertionError as exc:
            promises.equal("what was lost, doubled or out of order with nobody told", exc, "nothing")
        else:
            promises.equal("what was lost, doubled or out of order with nobody told", "nothing", "nothing")
    promises.exit()


if __name__ == "__main__":
    main()
