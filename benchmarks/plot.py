"""Lines over two logarithmic axes, as an SVG that a page shows in either theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 340, 60, 44, 30, 120
_COLOURS = ("#888", "#d62728", "#1f77b4", "#2ca02c", "#9467bd")

Points = Sequence[tuple[float, float]]


def write(name: str, y: str, x: str, lines: Mapping[str, Points]) -> None:
    """Write *lines* by their names into docs/NAME.svg."""
    (DOCS / f"{name}.svg").write_text(drawn(y, x, lines), encoding="utf-8")


def drawn(y: str, x: str, lines: Mapping[str, Points]) -> str:
    xs = _Axis([point[0] for line in lines.values() for point in line], _LEFT, _WIDTH - _RIGHT)
    ys = _Axis([point[1] for line in lines.values() for point in line], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12" fill="#888">',
        f'<text x="{_LEFT}" y="16">{y}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{x}</text>',
    ]
    for value in xs.ticks:
        at = f"{xs.at(value):.0f}"
        parts.append(f'<path d="M{at} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#8884"/>')
        parts.append(f'<text x="{at}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:,g}</text>')
    for value in ys.ticks:
        at = f"{ys.at(value):.0f}"
        parts.append(f'<path d="M{_LEFT} {at}H{_WIDTH - _RIGHT}" stroke="#8884"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at}" dy="4" text-anchor="end">{value:,g}</text>')
    for (name, line), colour in zip(lines.items(), _COLOURS, strict=False):
        path = "L".join(f"{xs.at(a):.1f} {ys.at(b):.1f}" for a, b in line)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        last = ys.at(line[-1][1])
        parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{last:.0f}" dy="4" fill="{colour}">{name}</text>')
    return "\n".join((*parts, "</svg>", ""))


class _Axis:
    """Where values stand between *low* and *high*; the ticks are 1, 2 and 5 of each power of ten."""

    def __init__(self, values: Sequence[float], low: float, high: float) -> None:
        ticks = [digit * 10**power for power in range(-2, 7) for digit in (1, 2, 5)]
        first = max(tick for tick in ticks if tick <= min(values))
        last = min(tick for tick in ticks if tick >= max(values))
        self.ticks = [tick for tick in ticks if first <= tick <= last]
        self._first, self._span, self._low, self._high = first, math.log(last / first) or 1, low, high

    def at(self, value: float) -> float:
        return self._low + (self._high - self._low) * math.log(value / self._first) / self._span
