"""What an idle connection takes of the server's memory, and how long tags take to be made."""

from __future__ import annotations

import subprocess

from peer_rounds import HERE, measured, python
from report import Report, Table, Target

PACKAGES = ("nbws", "picows", "uvicorn", "uvloop", "starlette", "websockets", "python-fasthtml", "htpy", "markupsafe")
PEERS = ("picows", "nbws", "nbws, no picows", "websockets", "Starlette", "FastHTML")

UL = """
import timeit
words = [f"item {{n}}" for n in range(100)]
{}
print(min(timeit.repeat(lambda: str({}), number=20, repeat=200)) / 20 * 1e6)
"""
MADE_BY = {
    "nbws": ("from nbws.common import Ul, Li", "Ul(*[Li(w) for w in words])"),
    "htpy": ("from htpy import ul, li", "ul[[li[w] for w in words]]"),
    "FastHTML": ("from fasthtml.common import Ul, Li, to_xml", "to_xml(Ul(*[Li(w) for w in words]))"),
}


def measure(quick: bool = False) -> Report:
    numbers = (300,) if quick else (1000, 4000, 9900)
    memory = {n: {peer: measured(peer, "memory", n, 0)["memory"] for peer in PEERS} for n in numbers}
    made = {name: _seconds(*how) for name, how in MADE_BY.items()}
    return Report(
        [
            Target("an idle connection", memory[numbers[-1]]["nbws"], 26, "KiB"),
            Target("Ul of 100 Li, made and rendered", made["nbws"], 110, "µs"),
        ],
        [
            Table(
                "KiB of memory for one idle connection, by how many are open:",
                ("connections", *PEERS),
                [(f"{n + 100:,}", *(f"{figures[peer]:.1f}" for peer in PEERS)) for n, figures in memory.items()],
            ),
            Table(
                "Microseconds to make a list of 100 items and render it:",
                tuple(made),
                [[f"{each:.0f}" for each in made.values()]],
            ),
        ],
        "No compression, no session and no state.",
        PACKAGES,
    )


def _seconds(imported: str, made: str) -> float:
    done = subprocess.run(
        [python(), "-c", UL.format(imported, made)], capture_output=True, text=True, check=True, cwd=HERE
    )
    return float(done.stdout)
