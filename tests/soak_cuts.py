"""A thousand random cuts of connections that are in use. `python tests/soak_cuts.py [SEED]`; it takes about a minute.

Raises where a fragment or a message was lost, doubled or out of order and nobody was told, or where a `disconn` did not
run once. Prints what it saw, and the seed to see it again.
"""

from __future__ import annotations

import json
import random
import sys

import pytest
from cuts import run_cuts


@pytest.mark.timeout(200)
def test_after_a_thousand_random_cuts_each_sequence_is_the_one_that_was_sent_or_its_client_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed = int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdigit() else random.randrange(10**6)
    print(json.dumps({"seed": seed}), flush=True)
    print(json.dumps(run_cuts(monkeypatch, cuts=1000, clients=12, seed=seed, seconds=150)))


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        test_after_a_thousand_random_cuts_each_sequence_is_the_one_that_was_sent_or_its_client_was_told(patch)
