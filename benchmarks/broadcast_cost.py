"""What it costs to send 2 KB to everybody who is connected, for each of them. See peers.py for what each server does.

One client asks for it by a message, and the next round begins when all clients have all of it.
"""

from __future__ import annotations

import plot
from peer_rounds import least, median, rounds
from report import Report, Table, Target

PACKAGES = ("nbws", "picows", "uvicorn", "uvloop", "starlette", "websockets", "python-fasthtml")
PEERS = ("picows", "nbws", "nbws, no picows", "websockets", "Starlette")
SCALED = ("picows", "nbws", "websockets")


def measure(quick: bool = False) -> Report:
    size = 200 if quick else 2000
    found = rounds(PEERS, "broadcast", size, 10, 1 if quick else 3)
    found |= rounds(("FastHTML",), "broadcast", size, 2, 1)  # seconds for each round
    cpu = {peer: least(figures, "cpu") for peer, figures in found.items()}
    numbers = (10, 100) if quick else (10, 100, 500, 2000)
    scale = {n: rounds(SCALED, "broadcast", n, 10, 1 if quick else 2) for n in numbers}
    took = {n: {peer: least(figures[peer], "p50") / 1000 for peer in SCALED} for n, figures in scale.items()}
    if not quick:
        lines = {peer: [(n, figures[peer]) for n, figures in took.items()] for peer in SCALED}
        plot.write("broadcast-cost", "ms until all have it", "connections", lines)
    return Report(
        [
            Target(f"of what FastHTML takes, to {size:,}", cpu["nbws"] / cpu["FastHTML"], 1 / 80, "×"),
            Target("of what websockets.broadcast takes", cpu["nbws"] / cpu["websockets"], 1, "×"),
            Target("of what picows takes", cpu["nbws"] / cpu["picows"], 1.3, "×"),
        ],
        [
            Table(
                f"Microseconds of server CPU for one delivery of a fragment of 2 KB to {size:,}:",
                ("server", "CPU", "median", "of picows"),
                [
                    (peer, f"{cpu[peer]:.1f}", f"{median(figures, 'cpu'):.1f}", f"{cpu[peer] / cpu['picows']:.2f}")
                    for peer, figures in found.items()
                ],
            ),
            Table(
                "Milliseconds until all have it, by the number of connections:",
                ("connections", *SCALED),
                [(f"{n:,}", *(f"{figures[peer]:.1f}" for peer in SCALED)) for n, figures in took.items()],
            ),
        ],
        "![Time of a broadcast by the number of connections](broadcast-cost.svg)\n\nServer and clients on a core each.",
        PACKAGES,
    )
