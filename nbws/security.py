"""Who may talk to the app: verdicts on Host, Origin and credential. Nothing here reads or writes a socket.

Deny by default. The order is Host, Origin, credential, so that a page that guesses a port learns nothing more.
docs/security.md says what this protects from, and what not.
"""

from __future__ import annotations

import enum
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote, unquote, unquote_plus

__all__ = [
    "TICKET",
    "Asked",
    "Policy",
    "Verdict",
    "came_with_ticket",
    "came_with_token",
    "credential_cookies",
    "derive_token",
    "framed_cookies",
    "guards",
    "is_same",
    "judge",
    "new_ticket",
    "own_cookies",
    "read_cookies",
    "without_apps_cookies",
    "without_credentials",
    "without_credentials_in_text",
    "without_credentials_in_url",
]

TICKET = "nbws-ticket"  #: the query parameter that holds a ticket
# Browsers take every name under localhost for this machine (RFC 6761, 6.3); `preview(clients=2)` uses these.
_LOOPBACK = re.compile(r"(client\d{1,2}\.)?localhost|127(\.\d{1,3}){3}|\[::1\]", re.IGNORECASE)
_LOOPBACK_PAGES = "http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:*"  #: CSP knows no IPv6
_PORT = re.compile(r":\d*$")
_QUERY = re.compile(r'\?([^?#"\\\s]+)')  #: of a URL in a JSON text
_APPS_COOKIE = re.compile(r"nbws-\d+(-.*)?")


class Verdict(enum.Enum):
    """What the gate does. A DEAD_TICKET gets a page that says *run this cell*."""

    PASS = "pass"
    MALFORMED = "it cannot be told which host and which origin the request means"
    BAD_HOST = "the Host header names a host that this app does not serve"
    BAD_ORIGIN = "a page of another origin asked"
    NO_CREDENTIAL = "the app asks for a credential, and no valid one came with the request"
    DEAD_TICKET = "the ticket is of a kernel session that has ended"


@dataclass(frozen=True)
class Policy:
    """Whom one running server lets in."""

    allowed_hosts: frozenset[str] = frozenset()  #: host names without port, beside loopback
    allowed_origins: frozenset[str] = frozenset()  #: such as "https://hub.example.org"
    token: str | None = field(default=None, repr=False)  #: None asks for no credential
    ticket: str | None = field(default=None, repr=False)  #: the token's random stand-in in a notebook's output
    cookie: str = ""  #: the cookie that holds the token


@dataclass(frozen=True)
class Asked:
    """What one request says of itself."""

    host: str | None  #: None where there is no such header
    origin: str | None
    query: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)  #: each parameter with all its values
    cookies: Sequence[tuple[str, str]] = field(default=(), repr=False)
    in_process: bool = False  #: no socket is in between, as under a test client
    is_malformed: bool = False  #: two hosts, two origins, no Host in HTTP/1.1, or a target that is no path


def judge(policy: Policy, asked: Asked) -> Verdict:
    """Whether *asked* may pass."""
    if asked.is_malformed:
        return Verdict.MALFORMED
    token_given = came_with_token(policy, asked) or any(
        is_same(value, policy.token) or is_same(unquote(value), policy.token)
        for name, value in asked.cookies
        if name == policy.cookie
    )
    if not asked.in_process and not token_given and not _host_is_served(policy, asked.host):
        return Verdict.BAD_HOST
    if asked.origin is not None and not _origin_is_ours(policy, asked):
        return Verdict.BAD_ORIGIN
    if policy.token is None or token_given:
        return Verdict.PASS
    if came_with_ticket(policy, asked):
        return Verdict.PASS
    return Verdict.DEAD_TICKET if TICKET in asked.query else Verdict.NO_CREDENTIAL


def came_with_token(policy: Policy, asked: Asked) -> bool:
    """Whether the token stands in the URL, out of which it is to be taken. Other `token` fields are the author's."""
    return any(is_same(value, policy.token) for value in asked.query.get("token", ()))


def came_with_ticket(policy: Policy, asked: Asked) -> bool:
    """Whether a live ticket stands in the URL: it is an output of this very process that shows the page."""
    return any(is_same(ticket, policy.ticket) for ticket in asked.query.get(TICKET, ()))


def derive_token(key: bytes) -> str:
    """The credential that belongs to a kernel's session *key*: the same after a restart, stored nowhere."""
    return hmac.new(key, b"nbws", sha256).hexdigest()


def new_ticket() -> str:
    """A ticket that nobody can guess and that means nothing to another process."""
    return secrets.token_urlsafe(18)


def is_same(given: str | None, expected: str | None) -> bool:
    """Whether both are the same secret, found out in a time that does not depend on where they differ."""
    if given is None or expected is None:
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))


# -- credentials are taken out of what handlers see


def without_credentials(query: bytes, token: str | None) -> bytes:
    """*query* without what is for the gate alone, so that no handler sees it; the rest is left as it came."""
    if not any(sign in query for sign in (b"ticket", b"token", b"%")):
        return query

    def is_for_the_gate(part: bytes) -> bool:
        name, _, value = part.decode("latin-1").partition("=")
        name = unquote_plus(name)
        return name == TICKET or (name == "token" and is_same(unquote_plus(value), token))

    return b"&".join(part for part in query.split(b"&") if not is_for_the_gate(part))


def without_credentials_in_url(url: bytes, token: str | None) -> bytes:
    """The same for a whole URL, such as a Referer."""
    place, mark, query = url.partition(b"?")
    query, hash_mark, fragment = query.partition(b"#")
    kept = without_credentials(query, token)
    return place + (mark + kept if kept else b"") + hash_mark + fragment


def without_credentials_in_text(text: str, token: str | None) -> str:
    """*text* with the URLs in it cleaned so, such as the one that htmx sends with each message.

    A page takes credentials out of its address itself, unless it is a whole document of the author's own.
    """

    def cleaned(match: re.Match[str]) -> str:
        query = match[1].encode("utf-8", "surrogatepass")
        kept = without_credentials(query, token)
        return match[0] if kept is query else ("?" if kept else "") + kept.decode("utf-8", "surrogatepass")

    return _QUERY.sub(cleaned, text) if "?" in text else text


# -- cookies


def read_cookies(header: str) -> list[tuple[str, str]]:
    """A Cookie header's names and values, as often as they come. What is no cookie is passed over."""
    found = []
    for part in header.split(";"):
        name, separator, value = part.strip().partition("=")
        if separator and name:
            found.append((name, value))
    return found


def own_cookies(header: str, prefix: str) -> str:
    """The Cookie header with the app's own cookies alone, under the names that the app gave them.

    Cookies ignore ports: under one host name a browser sends this app the login cookie of Jupyter as well.
    """
    kept = [(name, value) for name, value in read_cookies(header) if name.startswith(prefix)]
    return "; ".join(f"{name[len(prefix) :]}={value}" for name, value in kept)


def without_apps_cookies(header: str) -> str:
    """A Cookie header without the cookies of apps in notebooks, whatever their port, and without any credential."""
    if "nbws-" not in header:
        return header
    return "; ".join(f"{name}={value}" for name, value in read_cookies(header) if not _APPS_COOKIE.fullmatch(name))


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


def credential_cookies(policy: Policy) -> list[str]:
    """The Set-Cookie headers that stand for the token, as `framed_cookies` explains.

    Lax and not Strict: an app whose first page redirects is reached from Jupyter by way of another site.
    """
    # Quoted: an author's own token may hold what no cookie may. One that is derived stays as it is.
    return framed_cookies(f"{policy.cookie}={quote(policy.token or '', safe='')}; Path=/; HttpOnly; SameSite=Lax", "")


# -- what a browser is told


def guards(
    policy: Policy, status: int, given: Mapping[str, str], *, in_notebook: bool, is_shared: bool = False
) -> list[tuple[str, str]]:
    """Headers that a response of *status* gets beside those that were *given*, by their lower-case names.

    What the app itself says of the same matter is left alone. *is_shared* is for what pages of others may load too.
    """
    found: dict[str, str] = {}
    if status >= 400:
        found |= {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if policy.token is not None:
        # The URL may hold a credential. Not no-referrer: that makes the Origin of a page's own forms null.
        found["referrer-policy"] = "same-origin"
    if not is_shared:
        # The cookie comes along where another port of this host asks. Its page could read what is a script or a style.
        found["cross-origin-resource-policy"] = "same-origin"
    framed = "x-frame-options" in given or "frame-ancestors" in given.get("content-security-policy", "")
    ancestors = _ancestors(policy, in_notebook)
    headers = [(name, value) for name, value in found.items() if name not in given]
    if ancestors is not None and not framed:
        headers.append(("content-security-policy", f"frame-ancestors {ancestors}"))
    return headers


def _ancestors(policy: Policy, in_notebook: bool) -> str | None:
    """Which pages may frame the app's; None where the browser is told of no limit.

    A preview is framed by Jupyter, whose origin a kernel does not know. There the credential decides: what another
    site frames gets no cookie, as that is partitioned by the site of the outermost page.
    """
    if in_notebook and policy.token is not None:
        return None
    return " ".join(["'self'", *([_LOOPBACK_PAGES] if in_notebook else []), *sorted(policy.allowed_origins)])


def _host_is_served(policy: Policy, host: str | None) -> bool:
    if host is None:
        return False
    name = _PORT.sub("", host)
    return bool(_LOOPBACK.fullmatch(name)) or name.lower() in policy.allowed_hosts


def _origin_is_ours(policy: Policy, asked: Asked) -> bool:
    origin = (asked.origin or "").lower()
    scheme, separator, place = origin.partition("://")
    if not separator:  # null, which every sandboxed frame has, whoever made it
        return False
    if origin in policy.allowed_origins:
        return True
    if asked.host is None or scheme not in ("http", "https"):
        return False
    default = ":443" if scheme == "https" else ":80"
    return place.removesuffix(default) == asked.host.lower().removesuffix(default)
