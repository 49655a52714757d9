"""A cable that is pulled and plugged in again; `soak_cable.py` does it with the limits that an app has by default."""

from __future__ import annotations

import pytest
from cable import pull_again_and_again

from nbws import Limits


def test_a_peer_behind_a_cut_cable_is_noticed_by_its_silence_and_comes_back_with_what_it_missed_or_fetches_its_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = Limits(ping_seconds=0.75, resume_seconds=3.0, stall_seconds=30.0)
    seen = pull_again_and_again(monkeypatch, limits, [(0.3, True), (2.5, True), (6.0, False)], every=0.1)
    for each in seen[1:]:
        assert each["noticed after"] is not None, seen
        assert each["noticed after"] < 2 * 0.75 + 1, seen
