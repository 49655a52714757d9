"""Connections that are cut off at random while they are in use; `soak_cuts.py` does it a thousand times."""

from __future__ import annotations

import pytest
from cuts import run_cuts


@pytest.mark.usefixtures("kind")
def test_after_random_cuts_each_sequence_is_the_one_that_was_sent_or_its_client_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = run_cuts(monkeypatch, cuts=50, clients=5, seed=3, seconds=60)
    assert told["sockets"] > 25
    assert told["fragments"] > 500
    assert told["messages"] > 100
