"""What a message costs a server: an htmx form's message in, a fragment out. See peers.py for what each server does.

CPU is that of the server's process, all threads, with the clients on another core; a round trip is as a client sees
it. Of several rounds the least is taken, as only a disturbance makes one take longer, with the median beside.
"""

from __future__ import annotations

import plot
from peer_rounds import Figures, least, median, rounds
from report import Report, Table, Target

PACKAGES = ("nbws", "picows", "uvicorn", "uvloop", "starlette", "websockets", "python-fasthtml", "msgspec")
PEERS = ("picows", "nbws", "nbws, no picows", "nbws, recording", "websockets", "Starlette", "FastHTML")
SCALED = ("picows", "nbws", "Starlette")


def measure(quick: bool = False) -> Report:
    count, messages = (1, 2000) if quick else (4, 20_000)
    many = rounds(PEERS, "echo", 50, messages // 50, count)
    one = rounds(PEERS, "echo", 1, messages // 4, count)
    cpu = {peer: least(figures, "cpu") for peer, figures in many.items()}
    p50 = {peer: least(figures, "p50") for peer, figures in one.items()}
    scale = _scale((1, 50) if quick else (1, 10, 50, 200, 1000, 2000), messages, 1 if quick else 6)
    if not quick:
        lines = {peer: [(n, figures[peer]) for n, figures in scale.items()] for peer in SCALED}
        plot.write("message-cost", "µs of CPU for a message", "connections", lines)
    targets = [
        Target("of what FastHTML takes, at 50 connections", cpu["nbws"] / cpu["FastHTML"], 1 / 7, "×"),
        Target("of what Starlette takes", cpu["nbws"] / cpu["Starlette"], 1, "×"),
        Target("of what websockets takes", cpu["nbws"] / cpu["websockets"], 1, "×"),
        Target("of what picows takes", cpu["nbws"] / cpu["picows"], 2, "×"),
        Target("round trip at 1 connection, of Starlette's", p50["nbws"] / p50["Starlette"], 1, "×"),
    ]
    if not quick:
        targets.append(Target("2,000 connections, of what 50 take", scale[2000]["nbws"] / scale[50]["nbws"], 1.5, "×"))
    return Report(
        targets,
        [
            Table(
                "Microseconds of server CPU for a message at 50 connections, and of a round trip at one:",
                ("server", "CPU", "median", "of picows", "round trip p50", "p99"),
                [_row(peer, many[peer], one[peer], cpu["picows"]) for peer in PEERS],
            ),
            Table(
                "Microseconds of CPU for a message, by the number of connections:",
                ("connections", *SCALED),
                [(f"{n:,}", *(f"{figures[peer]:.1f}" for peer in SCALED)) for n, figures in scale.items()],
            ),
        ],
        "![CPU for a message by the number of connections](message-cost.svg)\n\nServer and clients on a core each.",
        PACKAGES,
    )


def _row(peer: str, many: list[Figures], one: list[Figures], limit: float) -> tuple[str, ...]:
    cpu = least(many, "cpu")
    trip = (least(one, "p50"), least(one, "p99"))
    return (peer, f"{cpu:.1f}", f"{median(many, 'cpu'):.1f}", f"{cpu / limit:.2f}", *(f"{each:.0f}" for each in trip))


def _scale(connections: tuple[int, ...], messages: int, count: int) -> dict[int, dict[str, float]]:
    """Number of connections -> peer -> microseconds of CPU."""
    found: dict[int, dict[str, list[Figures]]] = {n: {peer: [] for peer in SCALED} for n in connections}
    for _ in range(count):  # each goes over all numbers, as they are held against each other
        for n in connections:
            for peer, figures in rounds(SCALED, "echo", n, max(5, messages // n), 1).items():
                found[n][peer] += figures
    return {n: {peer: least(figures, "cpu") for peer, figures in by_peer.items()} for n, by_peer in found.items()}
