"""A cable is pulled for 1, 10, 41 and 180 s, with the limits that an app has. `python tests/soak_cable.py`; 5 minutes.

Needs Linux, iproute2 and root, for network namespaces. Raises where the server did not notice within 40 s, or where
anything was lost, doubled or out of order and the client was not told; prints what it saw.
"""

from __future__ import annotations

import json

import pytest
from cable import pull_again_and_again

from nbws import Limits


@pytest.mark.timeout(400)
def test_with_the_limits_of_every_day_a_cut_peer_is_noticed_within_forty_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = pull_again_and_again(monkeypatch, Limits(), [(1, True), (10, True), (41, True), (180, False)], every=1.0)
    for each in seen:
        print(json.dumps(each))
    assert all(each["noticed after"] < 40.5 for each in seen[2:]), seen


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        test_with_the_limits_of_every_day_a_cut_peer_is_noticed_within_forty_seconds(patch)
