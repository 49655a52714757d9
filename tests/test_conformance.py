"""RFC 6455 byte by byte, of each of nbws's websocket classes and of bare uvicorn: what is right in one is right in all.

`python tests/soak_autobahn.py` asks much more, where it can be installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from clients import SECONDS, talk
from echoes import bare_uvicorn, nbws_server
from kinds import KINDS, choose
from raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, Raw, handshake

KEY = bytes((0x12, 0x00, 0xFF, 0x7A))


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | length[0]]) + length[1:]
    return head + KEY + bytes(c ^ KEY[n % 4] for n, c in enumerate(payload)) if masked else head + payload


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, (code.to_bytes(2, "big") if code is not None else b"") + reason)


@dataclass
class Case:
    """What a client sends, and what is to come back.

    That is *frames*, and then a close frame with *code* (None is none in it), after the client has said 4000 where
    that is the code.
    """

    sent: bytes
    frames: tuple[tuple[int, bytes], ...] = ()
    code: int | None = 4000


SNOWMAN = "\u2603\U0001f600".encode()

CASES = {
    "a text": Case(frame(TEXT, b"hi"), ((TEXT, b"hi"),)),
    "an empty text": Case(frame(TEXT), ((TEXT, b""),)),
    "bytes": Case(frame(BINARY, b"\0\xff"), ((BINARY, b"\0\xff"),)),
    **{
        f"{size} bytes": Case(frame(BINARY, b"x" * size), ((BINARY, b"x" * size),))
        for size in (125, 126, 127, 65535, 65536)
    },
    "pieces": Case(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c"), ((TEXT, b"abc"),)),
    "empty pieces": Case(frame(TEXT, fin=False) + frame(CONT, fin=False) + frame(CONT), ((TEXT, b""),)),
    "a ping between pieces": Case(
        frame(TEXT, b"a", fin=False) + frame(PING, b"?") + frame(CONT, b"b"), ((PONG, b"?"), (TEXT, b"ab"))
    ),
    "a ping": Case(frame(PING, b"x" * 125), ((PONG, b"x" * 125),)),
    "a pong that nobody asked for": Case(frame(PONG, b"x")),
    "a ping that is too long": Case(frame(PING, b"x" * 126), code=1002),
    "a ping in pieces": Case(frame(PING, b"x", fin=False), code=1002),
    **{f"the reserved bits {rsv}": Case(frame(TEXT, b"x", rsv=rsv), code=1002) for rsv in (1, 2, 4, 7)},
    **{f"the reserved opcode {opcode}": Case(frame(opcode, b"x"), code=1002) for opcode in (3, 7, 11, 15)},
    "a frame without a mask": Case(frame(TEXT, b"x", masked=False), code=1002),
    "a piece of nothing": Case(frame(CONT, b"x"), code=1002),
    "a text within a text": Case(frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), code=1002),
    "utf-8 over pieces": Case(
        frame(TEXT, SNOWMAN[:2], fin=False) + frame(CONT, SNOWMAN[2:5], fin=False) + frame(CONT, SNOWMAN[5:]),
        ((TEXT, SNOWMAN),),
    ),
    "no utf-8": Case(frame(TEXT, b"\xff\xfe"), code=1007),
    "utf-8 that is cut short": Case(frame(TEXT, SNOWMAN[:2]), code=1007),
    "half a surrogate pair": Case(frame(TEXT, b"\xed\xa0\x80"), code=1007),
    "no utf-8 in the last piece": Case(frame(TEXT, b"a", fin=False) + frame(CONT, b"\xff"), code=1007),
    "more bytes than may be": Case(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + KEY, code=1009),
    "a close with no code": Case(close(), code=None),
    **{f"a close with {code}": Case(close(code, b"why"), code=code) for code in (1000, 1001, 1011, 3000, 4999)},
    **{f"a close with {code}": Case(close(code), code=1002) for code in (0, 999, 1004, 1005, 1006, 1015, 5000, 65535)},
    "a close of one byte": Case(frame(CLOSE, b"\x03"), code=1002),
    "a close whose reason is no utf-8": Case(close(1000, b"\xff"), code=1007),
    "a text after the close": Case(close(1000) + frame(TEXT, b"late"), code=1000),
}


@pytest.fixture(scope="module", params=[*KINDS, "bare uvicorn"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param == "bare uvicorn":
        with bare_uvicorn() as port:
            yield port
        return
    with pytest.MonkeyPatch.context() as patch:
        choose(request.param, patch)
        with nbws_server() as port:
            yield port


async def hears(port: int, case: Case, *, piece: int) -> None:
    """Send it in pieces of so many bytes, and hold what comes back against it."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), SECONDS)
    client = Raw(reader, writer)
    try:
        await client.send(handshake(port))
        assert await client.answer() == (101, "")
        for at in range(0, len(case.sent), piece):
            await client.send(case.sent[at : at + piece])
            await asyncio.sleep(0)
        for expected in case.frames:
            assert await client.frame() == expected
        if case.code == 4000:
            await client.send(close(4000))
        opcode, payload = await client.frame()
        assert opcode == CLOSE, payload
        assert (int.from_bytes(payload[:2], "big") if payload else None) == case.code
        assert await client.rest() == ""
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("name", CASES)
def test_what_is_sent_is_answered_as_the_standard_says(port: int, name: str) -> None:
    talk(hears(port, CASES[name], piece=1_000_000))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.code == 4000])
def test_the_same_where_it_comes_in_small_pieces(port: int, name: str) -> None:
    talk(hears(port, CASES[name], piece=1 if len(CASES[name].sent) < 1000 else 999))
