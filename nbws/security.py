"""Who may talk to the app: verdicts on Host, Origin and credential. Nothing here reads or writes a socket.

Deny by default. The order is Host, Origin, credential, so that a page that guesses a port learns nothing more.
"""

from __future__ import annotations

import enum
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import unquote_plus

__all__ = [
    "TICKET",
    "Asked",
    "Policy",
    "Verdict",
    "came_with_token",
    "derive_token",
    "framed_cookies",
    "judge",
    "new_ticket",
    "own_cookies",
    "read_cookies",
    "without_credentials",
]

TICKET = "nbws-ticket"  #: the query parameter that holds a ticket
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]|::1", re.IGNORECASE)
_PORT = re.compile(r":\d*$")


class Verdict(enum.Enum):
    """What the gate does. A DEAD_TICKET gets a page that says *run this cell*."""

    PASS = "pass"
    BAD_HOST = "the Host header names a host that this app does not serve"
    BAD_ORIGIN = "a page of another origin asked"
    NO_CREDENTIAL = "the app runs in a notebook, and no valid credential came with the request"
    DEAD_TICKET = "the ticket is of a kernel session that has ended"


@dataclass(frozen=True)
class Policy:
    """Whom one running server lets in."""

    allowed_hosts: frozenset[str] = frozenset()  #: host names without port, beside loopback
    allowed_origins: frozenset[str] = frozenset()  #: such as "https://hub.example.org"
    token: str | None = None  #: None asks for no credential
    ticket: str | None = None  #: the random stand-in for the token that a notebook's output holds
    cookie: str = ""  #: the cookie that holds the token


@dataclass(frozen=True)
class Asked:
    """What one request says of itself; None is a header that is not there."""

    host: str | None
    origin: str | None
    query: Mapping[str, str]
    cookies: Mapping[str, str]
    in_process: bool = False  #: no socket is in between, as under a test client


def judge(policy: Policy, asked: Asked) -> Verdict:
    """Whether *asked* may pass."""
    token_given = _is(asked.query.get("token"), policy.token) or _is(asked.cookies.get(policy.cookie), policy.token)
    if not asked.in_process and not token_given and not _host_is_served(policy, asked.host):
        return Verdict.BAD_HOST
    if asked.origin is not None and not _origin_is_ours(policy, asked):
        return Verdict.BAD_ORIGIN
    if policy.token is None or token_given:
        return Verdict.PASS
    if _is(asked.query.get(TICKET), policy.ticket):
        return Verdict.PASS
    return Verdict.DEAD_TICKET if TICKET in asked.query else Verdict.NO_CREDENTIAL


def came_with_token(policy: Policy, asked: Asked) -> bool:
    """Whether the token stands in the URL, out of which it is to be taken."""
    return _is(asked.query.get("token"), policy.token)


def derive_token(key: bytes) -> str:
    """The credential that belongs to a kernel's session *key*: the same after a restart, stored nowhere."""
    return hmac.new(key, b"nbws", sha256).hexdigest()


def new_ticket() -> str:
    """A ticket that nobody can guess and that means nothing to another process."""
    return secrets.token_urlsafe(18)


def without_credentials(query: bytes, token: str | None) -> bytes:
    """*query* without what is for the gate alone, so that no handler sees it; the rest is left as it came."""
    if not any(sign in query for sign in (b"ticket", b"token", b"%")):
        return query

    def is_for_the_gate(part: bytes) -> bool:
        name, _, value = part.decode("latin-1").partition("=")
        name = unquote_plus(name)
        return name == TICKET or (name == "token" and unquote_plus(value) == token)

    return b"&".join(part for part in query.split(b"&") if not is_for_the_gate(part))


def read_cookies(header: str) -> dict[str, str]:
    """A Cookie header's names and values. What is no cookie is passed over."""
    found = {}
    for part in header.split(";"):
        name, separator, value = part.strip().partition("=")
        if separator and name:
            found[name] = value
    return found


def own_cookies(header: str, prefix: str) -> str:
    """The Cookie header with the app's own cookies alone, under the names that the app gave them.

    Cookies ignore ports: under one host name a browser sends this app the login cookie of Jupyter as well.
    """
    kept = [(n, v) for n, v in read_cookies(header).items() if n.startswith(prefix)]
    return "; ".join(f"{name[len(prefix) :]}={value}" for name, value in kept)


def framed_cookies(header: str, prefix: str) -> list[str]:
    """A Set-Cookie header as the ones that carry it in a tab and in a frame inside Jupyter, under *prefix*.

    Inside a frame of another site only `SameSite=None; Secure; Partitioned` is kept (seen in Chromium 156); other
    clients take the plain one, which therefore comes last.
    """
    pair, *attributes = (part.strip() for part in header.split(";"))  # RFC 6265, section 5.2
    if not pair.partition("=")[0] or "=" not in pair:
        return []
    same_site, kept = "lax", [f"{prefix}{pair}"]
    for attribute in attributes:
        name, _, value = attribute.partition("=")
        if name.lower() == "samesite":
            same_site = value
        elif attribute and name.lower() not in ("secure", "partitioned"):
            kept.append(attribute)
    text = "; ".join(kept)
    return [f"{text}; SameSite=None; Secure; Partitioned", f"{text}; SameSite={same_site}"]


def _is(given: str | None, expected: str | None) -> bool:
    if given is None or expected is None:
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def _host_is_served(policy: Policy, host: str | None) -> bool:
    if host is None:
        return False
    name = _PORT.sub("", host)
    return bool(_LOOPBACK.fullmatch(name)) or name.lower() in policy.allowed_hosts


def _origin_is_ours(policy: Policy, asked: Asked) -> bool:
    if asked.origin in policy.allowed_origins:
        return True
    scheme, separator, place = (asked.origin or "").partition("://")
    if not separator or asked.host is None or scheme not in ("http", "https"):
        return False
    default = ":443" if scheme == "https" else ":80"
    return place.lower().removesuffix(default) == asked.host.lower().removesuffix(default)
