"""A cable is pulled for 1, 10, 41 and 180 s, with the limits that an app has by default.

    python tests/soak_cable.py          4 minutes; needs Linux, iproute2 and root, for network namespaces

The server notices within 40 s that its peer is cut off. Up to two minutes later that peer goes on where it was; after
that it begins anew and is told so.
"""

from __future__ import annotations

import pytest
from cable import pull_again_and_again
from soak import Promises

from nbws import Limits

DOWNS = [(1.0, True), (10.0, True), (41.0, True), (180.0, False)]  #: seconds, and whether the connection lasts


def main() -> None:
    promises = Promises()
    with pytest.MonkeyPatch.context() as patch:
        try:
            seen = pull_again_and_again(patch, Limits(), DOWNS, every=1.0)
        except pytest.skip.Exception as exc:
            print(f"skipped: {exc}")
            return
        except AssertionError as exc:
            promises.equal("what was lost, doubled or out of order with nobody told", exc, "nothing")
            promises.exit()
    for each in seen:
        print(each)
    for each in seen[2:]:
        promises.at_most(f"down for {each['seconds down']:g} s, noticed after", each["noticed after"], 40.5, " s")
    promises.equal("what was lost, doubled or out of order with nobody told", "nothing", "nothing")
    promises.exit()


if __name__ == "__main__":
    main()
