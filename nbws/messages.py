"""An HTMX frame (htmx 2 and htmx 4) -> Message."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from nbws.errors import MessageError

__all__ = ["NOTHING", "REDACTED", "HtmxHeaders", "Message", "parse", "redact", "redacted_values", "without_headers"]

REDACTED = "(redacted)"


@dataclass(frozen=True)
class HtmxHeaders:
    """What htmx says about a message; None is what it did not say.

    *trigger* and *target* are ids. *source* and *request_type* come from htmx 4 alone.
    """

    boosted: str | None = None
    current_url: str | None = None
    history_restore_request: str | None = None
    prompt: str | None = None
    request: str | None = None
    request_type: str | None = None
    source: str | None = None
    target: str | None = None
    trigger_name: str | None = None
    trigger: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, Any]) -> HtmxHeaders:
        """Picked out of *headers*, which are under their lower-case names."""
        return cls(**{f.name: headers.get("hx-" + f.name.replace("_", "-")) for f in fields(cls)})

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) is not None for f in fields(self))


@dataclass(frozen=True, slots=True)
class Message:
    """*fields* by name; htmx's *headers* by lower-case name; *raw* is the frame, bytes where it was binary."""

    fields: Mapping[str, Any]
    headers: Mapping[str, Any]
    raw: str | bytes


NOTHING = Message({}, {}, "")
"""The message of a hook, which has none."""

_decode = msgspec.json.Decoder().decode


def parse(frame: str, max_depth: int = 64) -> Message:
    """The message in a text frame. Raises MessageError for what is no JSON object or nests deeper than *max_depth*."""
    try:
        payload = _decode(frame)
    except RecursionError:
        raise MessageError(f"the message nests deeper than {max_depth} levels; send it flat") from None
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise MessageError(
            f"the message is no JSON ({exc}): {_start_of(frame)}; a form with ws_send sends a JSON object"
        ) from None
    if type(payload) is not dict:
        raise MessageError(
            f"the message is a JSON {_json_kind(payload)}, not an object: {_start_of(frame)}; "
            'send fields by name, such as {"msg": "hi"}'
        )
    if _deeper_than(payload, max_depth):
        raise MessageError(f"the message nests deeper than {max_depth} levels; send it flat")
    headers = payload.pop("HEADERS", None)
    if headers is None and isinstance(payload.get("headers"), dict):  # htmx 4
        headers = payload.pop("headers")
        if isinstance(payload.get("values"), dict):  # some builds of it nest the fields
            payload |= payload.pop("values")
    if not isinstance(headers, dict):
        return Message(payload, {}, frame)
    return Message(payload, {k.lower(): v for k, v in headers.items() if v is not None}, frame)


def without_headers(frame: str, redacted: Collection[str] = ()) -> str:
    """*frame* as an author reads it: without what htmx says about it, where it is a message, and `redact`ed."""
    payload = _payload(frame)
    if payload is None:
        return frame
    if isinstance(payload.get("HEADERS", payload.get("headers")), dict):
        payload = {k: v for k, v in payload.items() if k not in ("HEADERS", "headers")}
    elif not redacted:
        return frame
    return _written(payload, redacted)


def redact(frame: str, names: Collection[str]) -> str:
    """*frame* without the values of fields of these *names*, given in lower case, at whichever depth."""
    payload = _payload(frame) if names else None
    return _written(payload, names) if payload is not None else frame


def redacted_values(frame: str, names: Collection[str]) -> set[str]:
    """What the fields hold that `redact` takes out of *frame*, as text."""
    payload = _payload(frame) if names else None
    return set(_values(payload, names, False)) if payload is not None else set()


def _values(value: Any, names: Collection[str], is_secret: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _values(each, names, is_secret or name.lower() in names)
    elif isinstance(value, list):
        for each in value:
            yield from _values(each, names, is_secret)
    elif is_secret and value is not None:
        yield str(value)


def _payload(frame: str) -> dict[str, Any] | None:
    try:
        payload = _decode(frame)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    return payload if isinstance(payload, dict) else None


def _written(payload: dict[str, Any], redacted: Collection[str]) -> str:
    try:
        return json.dumps(_redacted(payload, redacted), ensure_ascii=False)
    except RecursionError:
        return "(nested too deep to show)"


def _redacted(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {k: REDACTED if k.lower() in names else _redacted(v, names) for k, v in value.items()}
    return [_redacted(each, names) for each in value] if isinstance(value, list) else value


def _deeper_than(payload: Any, levels: int) -> bool:
    nested = [payload]
    while nested:
        if levels == 0:
            return True
        levels -= 1
        nested = [
            child
            for container in nested
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
    return False


def _start_of(frame: str) -> str:
    return repr(frame if len(frame) <= 60 else frame[:59] + "…")


def _json_kind(value: Any) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")
