"""Compression of websocket messages (RFC 7692) for clients that are elsewhere, bounded in what it costs.

Nothing is kept from one message to the next. So a connection needs no memory for it between two of them, where
uvicorn's own settings keep up to 70 KB, and a message that goes to many clients is compressed once for all of them.
What a client sends is inflated no further than to the largest message that is taken; websockets sees to that.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import CTRL_OPCODES, Frame, Opcode
from websockets.typing import ExtensionParameter

__all__ = ["Deflate"]

_WINDOW_BITS = 12  #: 4 KiB of text are looked back at, for what comes again
_MEMORY_LEVEL = 5  #: zlib's; with that window 32 KiB while a message is compressed
_WORTH_BYTES = 200  #: shorter messages hardly get shorter still
_MOST_BYTES = 64 * 1024  #: 3 ms (measured); 1 MB takes 30 to 150, in which nobody else is served
_KEPT = 32  #: compressed messages that other clients may be about to get


class Deflate(ServerPerMessageDeflateFactory):
    """What a server of `websockets` is to offer its clients: one for each connection."""

    def __init__(self) -> None:
        super().__init__(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=_WINDOW_BITS,
            client_max_window_bits=_WINDOW_BITS,
        )

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        answer, agreed = super().process_request_params(params, accepted_extensions)
        return answer, _Deflated(agreed.remote_max_window_bits, agreed.local_max_window_bits)


class _Deflated(PerMessageDeflate):
    """The messages of one connection."""

    def __init__(self, remote_max_window_bits: int, local_max_window_bits: int) -> None:
        settings: dict[Any, Any] = {"memLevel": _MEMORY_LEVEL}
        super().__init__(True, True, remote_max_window_bits, local_max_window_bits, settings)

    def encode(self, frame: Frame) -> Frame:
        if frame.opcode is Opcode.CONT or not frame.fin:
            return super().encode(frame)
        if frame.opcode in CTRL_OPCODES or not _WORTH_BYTES <= len(frame.data) <= _MOST_BYTES:
            return frame
        data = _compressed(bytes(frame.data), self.local_max_window_bits)
        if len(data) >= len(frame.data):  # each message says for itself whether it is compressed
            return frame
        return Frame(frame.opcode, data, True, True, frame.rsv2, frame.rsv3)


@lru_cache(_KEPT)
def _compressed(data: bytes, window_bits: int) -> bytes:
    encoder = zlib.compressobj(wbits=-window_bits, memLevel=_MEMORY_LEVEL)
    return (encoder.compress(data) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]  # RFC 7692, 7.2.1
