"""Runs `nbws docs`, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def nbws_docs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: playwright's loop runs in this thread."""
    env = {**os.environ, "IPYTHONDIR": str(folder / "ipython")}
    command = [sys.executable, "-c", "from nbws.cli import main; main()", "docs", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=90, check=False)
