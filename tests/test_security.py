"""Who may talk to the app: Host x Origin x credential, and what becomes of cookies and of the query."""

from __future__ import annotations

import itertools
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbws.security import (
    TICKET,
    Asked,
    Policy,
    Verdict,
    derive_token,
    framed_cookies,
    judge,
    new_ticket,
    own_cookies,
    read_cookies,
    without_credentials,
)

TOKEN, LIVE_TICKET = "t0ken", "t1cket"
ALLOWED = {
    "allowed_hosts": frozenset(["app.lan"]),
    "allowed_origins": frozenset(["https://hub.example.org"]),
}
SCRIPT = Policy(**ALLOWED)  # type: ignore[arg-type]
NOTEBOOK = Policy(**ALLOWED, token=TOKEN, ticket=LIVE_TICKET, cookie="nbws-5001")  # type: ignore[arg-type]


class Credential(NamedTuple):
    query: dict[str, str]
    cookies: dict[str, str]
    is_token: bool
    verdict: Verdict  #: where Host and Origin pass, in a notebook


SERVED_HOSTS = ["localhost:5001", "localhost", "LocalHost:5001", "127.0.0.1:5001", "127.8.9.1", "[::1]:5001", "[::1]"]
SERVED_HOSTS += ["app.lan", "app.lan:8080", "APP.lan"]
OTHER_HOSTS = [None, "", "evil.example", "evil.example:5001", "localhost.evil.example:5001", "127.0.0.1.evil.example"]
OTHER_HOSTS += ["evil-localhost:5001", "evil.example:localhost", "0.0.0.0:5001", "192.168.1.5:5001", "sub.app.lan"]

OWN_ORIGINS = [None, "http://{host}", "https://{host}", "https://hub.example.org"]
OTHER_ORIGINS = ["null", "", "http://evil.example", "http://localhost:9999", "{host}", "ftp://{host}", "file://"]
OTHER_ORIGINS += ["http://{host}.evil.example", "http://evil.example/{host}", "http://user@{host}", "http://{host}/"]
OTHER_ORIGINS += ["http://hub.example.org", "https://hub.example.org.evil.example", "chrome-extension://{host}"]

CREDENTIALS = {
    "none": Credential({}, {}, False, Verdict.NO_CREDENTIAL),
    "token": Credential({"token": TOKEN}, {}, True, Verdict.PASS),
    "cookie": Credential({}, {"nbws-5001": TOKEN}, True, Verdict.PASS),
    "ticket": Credential({TICKET: LIVE_TICKET}, {}, False, Verdict.PASS),
    "dead ticket": Credential({TICKET: "of yesterday"}, {}, False, Verdict.DEAD_TICKET),
    "dead ticket and cookie": Credential({TICKET: "of yesterday"}, {"nbws-5001": TOKEN}, True, Verdict.PASS),
    "wrong token": Credential({"token": "t0ke"}, {}, False, Verdict.NO_CREDENTIAL),
    "empty token": Credential({"token": ""}, {}, False, Verdict.NO_CREDENTIAL),
    "wrong cookie": Credential({}, {"nbws-5001": "x"}, False, Verdict.NO_CREDENTIAL),
    "cookie of another port": Credential({}, {"nbws-5002": TOKEN}, False, Verdict.NO_CREDENTIAL),
    "ticket as token": Credential({"token": LIVE_TICKET}, {}, False, Verdict.NO_CREDENTIAL),
    "ticket as cookie": Credential({}, {"nbws-5001": LIVE_TICKET}, False, Verdict.NO_CREDENTIAL),
    "token as ticket": Credential({TICKET: TOKEN}, {}, False, Verdict.DEAD_TICKET),
    "not ascii": Credential({"token": "tökén\udcff"}, {}, False, Verdict.NO_CREDENTIAL),
}


def verdict(policy: Policy, host: str | None, origin: str | None, credential: Credential) -> Verdict:
    origin = origin.format(host=host) if origin is not None else None
    return judge(policy, Asked(host, origin, credential.query, credential.cookies))


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_served_host_and_an_own_origin_are_asked_for_the_credential(name: str) -> None:
    credential = CREDENTIALS[name]
    for host, origin in itertools.product(SERVED_HOSTS, OWN_ORIGINS):
        assert verdict(NOTEBOOK, host, origin, credential) is credential.verdict, (host, origin)


@pytest.mark.parametrize("name", CREDENTIALS)
def test_another_origin_is_refused_whatever_comes_with_it(name: str) -> None:
    for policy, host, origin in itertools.product((NOTEBOOK, SCRIPT), SERVED_HOSTS, OTHER_ORIGINS):
        assert verdict(policy, host, origin, CREDENTIALS[name]) is Verdict.BAD_ORIGIN, (host, origin)


@pytest.mark.parametrize("name", [name for name, c in CREDENTIALS.items() if not c.is_token and name != "ticket"])
def test_another_host_is_refused_before_anything_else_is_looked_at(name: str) -> None:
    for host, origin in itertools.product(OTHER_HOSTS, OWN_ORIGINS + OTHER_ORIGINS):
        assert verdict(NOTEBOOK, host, origin, CREDENTIALS[name]) is Verdict.BAD_HOST, (host, origin)


@pytest.mark.parametrize("name", [name for name, c in CREDENTIALS.items() if c.is_token])
def test_a_valid_token_in_the_query_or_the_cookie_passes_under_any_host(name: str) -> None:
    for host in filter(None, OTHER_HOSTS):
        assert verdict(NOTEBOOK, host, "http://{host}", CREDENTIALS[name]) is Verdict.PASS, host
        assert verdict(NOTEBOOK, host, "http://evil.test", CREDENTIALS[name]) is Verdict.BAD_ORIGIN, host


@pytest.mark.parametrize("host", SERVED_HOSTS)
@pytest.mark.parametrize("origin", OWN_ORIGINS)
def test_a_script_asks_for_no_credential(host: str, origin: str | None) -> None:
    for credential in CREDENTIALS.values():
        assert verdict(SCRIPT, host, origin, credential) is Verdict.PASS


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_a_script_serves_no_other_host_and_no_token_opens_it(host: str | None) -> None:
    for credential in CREDENTIALS.values():
        assert verdict(SCRIPT, host, None, credential) is Verdict.BAD_HOST


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://localhost:80"),
        ("localhost:80", "http://localhost"),
        ("localhost:443", "https://localhost"),
        ("LOCALHOST:5001", "http://localhost:5001"),
        ("[::1]:5001", "http://[::1]:5001"),
    ],
)
def test_an_origin_may_leave_out_the_port_that_its_scheme_has(host: str, origin: str) -> None:
    assert judge(SCRIPT, Asked(host, origin, {}, {})) is Verdict.PASS


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:443", "http://localhost"),
        ("localhost:80", "https://localhost"),
        ("127.0.0.1:5001", "http://localhost:5001"),
    ],
)
def test_another_port_and_another_loopback_name_are_another_origin(host: str, origin: str) -> None:
    assert judge(SCRIPT, Asked(host, origin, {}, {})) is Verdict.BAD_ORIGIN


def test_an_origin_with_no_host_to_compare_it_with_is_refused() -> None:
    asked = Asked(None, "http://", {"token": TOKEN}, {})
    assert judge(NOTEBOOK, asked) is Verdict.BAD_ORIGIN


def test_a_client_in_the_same_process_is_asked_for_no_host_but_for_the_rest() -> None:
    def asked(origin: str | None = None, **query: str) -> Asked:
        return Asked("testserver", origin, query, {}, in_process=True)

    assert judge(SCRIPT, asked()) is Verdict.PASS
    assert judge(SCRIPT, asked("http://evil.example")) is Verdict.BAD_ORIGIN
    assert judge(NOTEBOOK, asked()) is Verdict.NO_CREDENTIAL
    assert judge(NOTEBOOK, asked(token=TOKEN)) is Verdict.PASS


# -- tokens and tickets


def test_the_token_of_a_kernels_key_is_always_the_same_and_of_another_key_another() -> None:
    assert derive_token(b"key") == derive_token(b"key")
    assert derive_token(b"key") != derive_token(b"other")


def test_the_key_cannot_be_read_off_the_token() -> None:
    assert "key" not in derive_token(b"key")
    assert len(derive_token(b"key")) >= 32


def test_no_two_tickets_are_alike() -> None:
    assert len({new_ticket() for _ in range(100)}) == 100


# -- the query


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ""),
        ("room=a&n=1", "room=a&n=1"),
        (f"token={TOKEN}", ""),
        (f"room=a&token={TOKEN}&n=1", "room=a&n=1"),
        (f"{TICKET}=x&room=a", "room=a"),
        (f"{TICKET}=&room=a&{TICKET}=y&token={TOKEN}", "room=a"),
        ("token=of-the-authors-own", "token=of-the-authors-own"),
        (f"my_token={TOKEN}x&mytoken=1", f"my_token={TOKEN}x&mytoken=1"),
        ("q=a%20b+c&empty=&flag&x=%FF", "q=a%20b+c&empty=&flag&x=%FF"),
        (f"%74oken={TOKEN}&a=1", "a=1"),
        (f"nbws%2Dticket={LIVE_TICKET}", ""),
        ("token=%740ken", ""),
    ],
)
def test_what_is_for_the_gate_alone_is_taken_out_of_the_query(query: str, left: str) -> None:
    assert without_credentials(query.encode(), TOKEN) == left.encode()


def test_without_a_token_a_token_field_is_the_authors_own() -> None:
    assert without_credentials(b"token=t0ken&a=1", None) == b"token=t0ken&a=1"


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.lists(st.tuples(st.text("ab%=& ü"), st.text("ab%=& ü"))))
def test_no_token_however_it_is_written_gets_past_the_gate(token: str, others: list[tuple[str, str]]) -> None:
    others = [(name, value) for name, value in others if name != "token"]
    query = urlencode([*others, ("token", token), (TICKET, "x")])
    left = without_credentials(query.encode(), token).decode()
    assert parse_qsl(left, keep_blank_values=True) == others


# -- cookies


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2;c=3", {"a": "1", "b": "2", "c": "3"}),
        ('a="x y"; b=x=y', {"a": '"x y"', "b": "x=y"}),
        ("a=; =2; nothing; ;b=2", {"a": "", "b": "2"}),
    ],
)
def test_a_cookie_header_is_read_and_what_is_no_cookie_is_passed_over(header: str, cookies: dict[str, str]) -> None:
    assert read_cookies(header) == cookies


def test_only_the_apps_own_cookies_are_left_under_the_names_that_it_gave_them() -> None:
    header = "username-localhost-8888=secret; nbws-5001-session_=abc; _xsrf=1; nbws-5001=token; nbws-5002-x=2"
    assert own_cookies(header, "nbws-5001-") == "session_=abc"


def test_of_foreign_cookies_nothing_is_left() -> None:
    assert own_cookies("username-localhost-8888=secret; _xsrf=1", "nbws-5001-") == ""


def attributes(set_cookie: str) -> tuple[str, set[str]]:
    pair, *rest = set_cookie.split("; ")
    return pair, {attribute.lower() for attribute in rest}


def test_a_cookie_is_set_for_a_frame_and_then_for_a_tab() -> None:
    in_frame, in_tab = framed_cookies("session_=abc; Path=/; Max-Age=60; HttpOnly; SameSite=lax", "nbws-5001-")
    common = {"path=/", "max-age=60", "httponly"}
    assert attributes(in_frame) == ("nbws-5001-session_=abc", common | {"samesite=none", "secure", "partitioned"})
    assert attributes(in_tab) == ("nbws-5001-session_=abc", common | {"samesite=lax"})


@pytest.mark.parametrize(
    "header",
    [
        "a=1; SameSite=Strict",
        "a=1; Secure; Partitioned; SameSite=None",
        'a="x y, z"',
        'a={"json":[1]}',
        "a=x=y",
        "a=",
        "a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
        "a=1; Max-Age=0",
    ],
)
def test_every_cookie_is_passed_on_with_its_value_and_its_life(header: str) -> None:
    value, given = attributes(header)
    forms = framed_cookies(header, "p-")
    assert len(forms) == 2
    for form in forms:
        pair, kept = attributes(form)
        assert pair == f"p-{value}"
        assert {a for a in given if a.startswith(("expires", "max-age", "path"))} <= kept


def test_a_strict_cookie_stays_strict_in_a_tab() -> None:
    assert "samesite=strict" in attributes(framed_cookies("a=1; SameSite=Strict", "p-")[-1])[1]


@pytest.mark.parametrize("header", ["", "no cookie", "=1", "; Path=/"])
def test_what_is_no_cookie_sets_none(header: str) -> None:
    assert framed_cookies(header, "p-") == []


def test_a_cookie_that_is_set_comes_back_under_the_authors_name() -> None:
    for form in framed_cookies("session_=abc; Path=/", "nbws-5001-"):
        assert own_cookies(form.partition(";")[0], "nbws-5001-") == "session_=abc"
