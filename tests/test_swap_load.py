"""Swapping under load: nothing is lost, doubled, reordered or handled by two versions."""

from __future__ import annotations

import pytest
from kernel import Kernel
from load import clients, counted, swap_under_load


@pytest.mark.usefixtures("kind")
def test_a_thousand_swaps_under_a_hundred_busy_connections_lose_and_mix_nothing() -> None:
    found = swap_under_load(swaps=1000, connections=100)
    assert found["wrong"] == {}
    assert found["last"] == [1000]
    assert found["seen"] == 1000
    assert found["version"] == 1000


def test_a_cell_run_two_hundred_times_under_busy_connections_loses_and_mixes_nothing() -> None:
    cell = """
import asyncio
from nbws import App
app = App("load")
@app.ws("/ws")
async def handle(n: int, ws):
    ws.send_json([n, {version}, 1])
    await asyncio.sleep(0)
    ws.send_json([n, {version}, 2])
"""
    with Kernel() as kernel:
        kernel.check("cell", cell.format(version=1) + "app.start()")
        url, token = kernel.check("ask", "print(app.url, app.token)").stdout.split()
        with clients(f"{url.replace('http', 'ws')}/ws?token={token}", 20) as process:
            for version in range(2, 201):
                kernel.check("cell", cell.format(version=version))
            kernel.check("stop", "for connection in app.connections: connection.send_json('stop')")
            result = counted(process)
        assert result["wrong"] == {}
        assert result["last"] == [200]
        assert kernel.check("ask", "print(app.endpoints['/ws'].version)").stdout == "200\n"
