"""A real kernel that runs cells, with the cell ids that JupyterLab sends, and no browser."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Ran:
    """What one run of a cell gave."""

    ok: bool
    stdout: str = ""
    stderr: str = ""
    error: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)

    @property
    def html(self) -> str:
        return "\n".join(d["text/html"] for d in self.data if "text/html" in d)

    @property
    def value(self) -> str:
        return self.data[-1]["text/plain"] if self.data else ""


class Kernel:
    """`with Kernel() as k: k.run("a", "1 + 1").value` runs a source as the cell with id "a"; None sends no id."""

    def __enter__(self) -> Kernel:
        self._manager = KernelManager(kernel_name="python3", transport="tcp")
        self._manager.kernel_spec.argv[0] = sys.executable  # type: ignore[union-attr]
        self._manager.start_kernel(
            env={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
            extra_arguments=["--log-level=ERROR"],  # else each says that TCP on loopback is not encrypted
        )
        self._connect()
        return self

    def _connect(self) -> None:
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self._seen: dict[str, Ran] = {}

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def restart(self) -> None:
        """A new process with the same connection file, as a restart in JupyterLab is."""
        self._client.stop_channels()
        self._manager.restart_kernel(now=True)
        self._connect()

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()
        # A kernel whose cell awaits sleeps in its event loop; the next message wakes it (seen with ipykernel 7.4).
        self._client.kernel_info()

    def start(self, cell: str | None, source: str) -> str:
        """Ask for a run and return at once; `finish` waits for it."""
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        metadata = {} if cell is None else {"cellId": cell}
        message = self._client.session.msg("execute_request", content, metadata=metadata)
        self._client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def finish(self, request: str, timeout: float = 60) -> Ran:
        while self._take_output(timeout) != (request, "idle"):
            pass
        ran = self._seen.setdefault(request, Ran(ok=True))
        while True:
            reply = self._client.get_shell_msg(timeout=timeout)
            if reply["parent_header"].get("msg_id") == request:
                ran.ok = reply["content"]["status"] == "ok"
                return ran

    def wait_for_text(self, request: str, text: str, timeout: float = 20) -> str:
        """What the run *request* has printed, when *text* is in it; it may have ended long ago."""
        while True:
            ran = self._seen.setdefault(request, Ran(ok=True))
            if text in ran.stdout + ran.stderr:
                return ran.stdout + ran.stderr
            self._take_output(timeout)

    def _take_output(self, timeout: float) -> tuple[str, str]:
        """Take in the next output message. Gives (the request it belongs to, "idle" where that has ended)."""
        message = self._client.get_iopub_msg(timeout=timeout)
        request = str(message["parent_header"].get("msg_id"))
        ran = self._seen.setdefault(request, Ran(ok=True))
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            setattr(ran, content["name"], getattr(ran, content["name"]) + content["text"])
        elif kind in ("execute_result", "display_data"):
            ran.data.append(content["data"])
        elif kind == "error":
            ran.error += _COLOURS.sub("", "\n".join(content["traceback"])) + "\n"
        return request, content["execution_state"] if kind == "status" else ""

    def run(self, cell: str | None, source: str, timeout: float = 60) -> Ran:
        return self.finish(self.start(cell, source), timeout)

    def check(self, cell: str | None, source: str, timeout: float = 60) -> Ran:
        """The same, where it must succeed."""
        ran = self.run(cell, source, timeout)
        assert ran.ok, f"{ran.error}\n{ran.stderr}"
        return ran
