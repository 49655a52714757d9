"""What a benchmark found, as a table for the terminal and for docs/performance.md."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Report", "Table", "Target", "environment", "percentile", "written_into"]

_LOAD_BEFORE = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # what else the machine was doing


@dataclass(frozen=True)
class Table:
    """Rows under *titles*; *caption* says what the figures are, and their unit."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.titles, ["-" * len(title) for title in self.titles], *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.titles))]
        lines[1] = ["-" * (width - 1) + ":" for width in widths]  # markdown's way to align to the right
        drawn = ("| " + " | ".join(map(str.rjust, line, widths)) + " |" for line in lines)
        return "\n".join((self.caption, "", *drawn))


@dataclass(frozen=True)
class Target:
    """What is to be reached: *measured* at most *limit*, both in *unit*."""

    what: str
    measured: float
    limit: float
    unit: str

    def __str__(self) -> str:
        verdict = "met" if self.measured <= self.limit else "**missed**"
        return f"- {self.what}: {self.measured:.2f} {self.unit}, target {self.limit:g} {self.unit}: {verdict}"


@dataclass(frozen=True)
class Report:
    """All that one benchmark found. *note* says under which conditions; *packages* took part in it."""

    targets: Sequence[Target]
    tables: Sequence[Table]
    note: str
    packages: Sequence[str]

    def __str__(self) -> str:
        targets = "\n".join(map(str, self.targets))
        note = f"{self.note} {environment(self.packages)}".lstrip()
        return "\n\n".join((*([targets] if targets else []), *map(str, self.tables), note))


def environment(packages: Iterable[str]) -> str:
    """Machine, Python and the versions of *packages*; one that is not installed is named as such."""
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    load = f" with a load of {_LOAD_BEFORE:.1f} before" if _LOAD_BEFORE is not None else ""
    load += f", at nice {os.nice(0)}" if hasattr(os, "nice") and os.nice(0) else ""
    return (
        f"{datetime.date.today()}: {_processor()}, {os.cpu_count()} cores{load}; {platform.system()}; "
        f"{platform.python_implementation()} {platform.python_version()}; {versions}."
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of *values* that *percent* of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def written_into(page: str, name: str, text: str, by: str = "benchmarks/run.py") -> str:
    """*page* with *text* between the marks of the benchmark *name*. Raises LookupError where it has no such marks."""
    begin, end = f"<!-- {name}: written by {by} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    if not pattern.search(page):
        raise LookupError(f"the page has no place for {name}; put these two lines where that is:\n{begin}\n{end}")
    return pattern.sub(lambda _: f"\n{text}\n\n", page)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)
        if name:
            return name[1]
    return platform.processor() or platform.machine()
