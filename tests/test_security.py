"""Who may talk to the app: Host x Origin x credential, and what becomes of cookies and of the query."""

from __future__ import annotations

import itertools
import json
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
    credential_cookies,
    derive_token,
    framed_cookies,
    guards,
    judge,
    new_ticket,
    own_cookies,
    read_cookies,
    without_apps_cookies,
    without_credentials,
    without_credentials_in_text,
    without_credentials_in_url,
)

TOKEN, LIVE_TICKET = "t0ken", "t1cket"
ALLOWED = {
    "allowed_hosts": frozenset(["app.lan"]),
    "allowed_origins": frozenset(["https://hub.example.org"]),
}
SCRIPT = Policy(**ALLOWED)  # type: ignore[arg-type]
NOTEBOOK = Policy(**ALLOWED, token=TOKEN, ticket=LIVE_TICKET, cookie="nbws-5001")  # type: ignore[arg-type]


class Credential(NamedTuple):
    query: dict[str, list[str]]
    cookies: list[tuple[str, str]]
    is_token: bool
    verdict: Verdict  #: where Host and Origin pass, in a notebook


SERVED_HOSTS = ["localhost:5001", "localhost", "LocalHost:5001", "127.0.0.1:5001", "127.8.9.1", "[::1]:5001", "[::1]"]
SERVED_HOSTS += ["app.lan", "app.lan:8080", "APP.lan"]
OTHER_HOSTS = [None, "", "evil.example", "evil.example:5001", "localhost.evil.example:5001", "127.0.0.1.evil.example"]
OTHER_HOSTS += ["localhost.", "localhost.:5001", "::1", "127.0.0.1:5001, localhost", "127.0.0.1@evil.example"]
OTHER_HOSTS += ["evil-localhost:5001", "evil.example:localhost", "0.0.0.0:5001", "192.168.1.5:5001", "sub.app.lan"]

OWN_ORIGINS = [None, "http://{host}", "https://{host}", "https://hub.example.org"]
OTHER_ORIGINS = ["null", "", "http://evil.example", "http://localhost:9999", "{host}", "ftp://{host}", "file://"]
OTHER_ORIGINS += ["http://{host}.evil.example", "http://evil.example/{host}", "http://user@{host}", "http://{host}/"]
OTHER_ORIGINS += ["http://hub.example.org", "https://hub.example.org.evil.example", "chrome-extension://{host}"]

CREDENTIALS = {
    "none": Credential({}, [], False, Verdict.NO_CREDENTIAL),
    "token": Credential({"token": [TOKEN]}, [], True, Verdict.PASS),
    "cookie": Credential({}, [("nbws-5001", TOKEN)], True, Verdict.PASS),
    "ticket": Credential({TICKET: [LIVE_TICKET]}, [], False, Verdict.PASS),
    "dead ticket": Credential({TICKET: ["of yesterday"]}, [], False, Verdict.DEAD_TICKET),
    "dead ticket and live one": Credential({TICKET: ["of yesterday", LIVE_TICKET]}, [], False, Verdict.PASS),
    "dead ticket and cookie": Credential({TICKET: ["of yesterday"]}, [("nbws-5001", TOKEN)], True, Verdict.PASS),
    "wrong token": Credential({"token": ["t0ke"]}, [], False, Verdict.NO_CREDENTIAL),
    "the author's token and ours": Credential({"token": ["x", TOKEN]}, [], True, Verdict.PASS),
    "ours and the author's token": Credential({"token": [TOKEN, "x"]}, [], True, Verdict.PASS),
    "empty token": Credential({"token": [""]}, [], False, Verdict.NO_CREDENTIAL),
    "wrong cookie": Credential({}, [("nbws-5001", "x")], False, Verdict.NO_CREDENTIAL),
    "stale cookie and fresh one": Credential({}, [("nbws-5001", "x"), ("nbws-5001", TOKEN)], True, Verdict.PASS),
    "cookie of another port": Credential({}, [("nbws-5002", TOKEN)], False, Verdict.NO_CREDENTIAL),
    "ticket as token": Credential({"token": [LIVE_TICKET]}, [], False, Verdict.NO_CREDENTIAL),
    "ticket as cookie": Credential({}, [("nbws-5001", LIVE_TICKET)], False, Verdict.NO_CREDENTIAL),
    "token as ticket": Credential({TICKET: [TOKEN]}, [], False, Verdict.DEAD_TICKET),
    "not ascii": Credential({"token": ["tökén\udcff\ud800"]}, [], False, Verdict.NO_CREDENTIAL),
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
    assert judge(SCRIPT, Asked(host, origin)) is Verdict.PASS


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:443", "http://localhost"),
        ("localhost:80", "https://localhost"),
        ("127.0.0.1:5001", "http://localhost:5001"),
    ],
)
def test_another_port_and_another_loopback_name_are_another_origin(host: str, origin: str) -> None:
    assert judge(SCRIPT, Asked(host, origin)) is Verdict.BAD_ORIGIN


def test_an_origin_with_no_host_to_compare_it_with_is_refused() -> None:
    asked = Asked(None, "http://", {"token": [TOKEN]})
    assert judge(NOTEBOOK, asked) is Verdict.BAD_ORIGIN


def test_null_is_refused_even_where_it_is_listed() -> None:
    policy = Policy(allowed_origins=frozenset(["null"]))
    assert judge(policy, Asked("localhost", "null")) is Verdict.BAD_ORIGIN


def test_a_malformed_request_is_refused_whatever_it_brings() -> None:
    for policy, credential in itertools.product((NOTEBOOK, SCRIPT), CREDENTIALS.values()):
        asked = Asked("localhost", None, credential.query, credential.cookies, is_malformed=True)
        assert judge(policy, asked) is Verdict.MALFORMED


def test_a_token_with_signs_that_no_cookie_may_hold_comes_back_in_one() -> None:
    policy = Policy(token='a; b="ü"', cookie="nbws-1")
    for header in credential_cookies(policy):
        header.encode("ascii")
        assert judge(policy, Asked("localhost", None, cookies=read_cookies(header.partition("; ")[0]))) is Verdict.PASS


def test_what_holds_a_credential_does_not_show_it() -> None:
    policy = Policy(token="canary", ticket="canary", cookie="c")
    asked = Asked("localhost", None, {"token": ["canary"]}, [("c", "canary")])
    assert "canary" not in repr(policy) + repr(asked)


def test_a_client_in_the_same_process_is_asked_for_no_host_but_for_the_rest() -> None:
    def asked(origin: str | None = None, **query: str) -> Asked:
        return Asked("testserver", origin, {name: [value] for name, value in query.items()}, in_process=True)

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


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (f"http://a/b?token={TOKEN}", "http://a/b"),
        (f"http://a/b?x=1&{TICKET}=y#part?z", "http://a/b?x=1#part?z"),
        ("http://a/b?#", "http://a/b#"),
        (f"http://a/b#?token={TOKEN}", "http://a/b#"),
        ("http://a/b", "http://a/b"),
    ],
)
def test_a_url_keeps_all_but_the_credential(url: str, left: str) -> None:
    assert without_credentials_in_url(url.encode(), TOKEN) == left.encode()


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (f"http://a/b?token={TOKEN}", "http://a/b"),
        (f"http://a/b?%74oken={TOKEN}&x=ü#y", "http://a/b?x=ü#y"),
        (f"http://a/b?{TICKET}=1&token={TOKEN}&x=1&{TICKET}=2", "http://a/b?x=1"),
        ("http://a/b?x=1", "http://a/b?x=1"),
        ("what? token? 100%?", "what? token? 100%?"),
        ("http://a/b?token=of-the-author", "http://a/b?token=of-the-author"),
    ],
)
def test_a_frame_keeps_all_but_the_credential_in_its_url(url: str, left: str) -> None:
    def frame(url: str) -> str:
        return json.dumps({"msg": "a?b", "HEADERS": {"HX-Current-URL": url, "HX-Request": "true"}}, ensure_ascii=False)

    assert without_credentials_in_text(frame(url), TOKEN) == frame(left)


# -- cookies


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", []),
        ("a=1", [("a", "1")]),
        ("a=1; b=2;c=3;a=4", [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")]),
        ('a="x y"; b=x=y', [("a", '"x y"'), ("b", "x=y")]),
        ("a=; =2; nothing; ;b=2", [("a", ""), ("b", "2")]),
    ],
)
def test_a_cookie_header_is_read_and_what_is_no_cookie_is_passed_over(
    header: str, cookies: list[tuple[str, str]]
) -> None:
    assert read_cookies(header) == cookies


def test_only_the_apps_own_cookies_are_left_under_the_names_that_it_gave_them() -> None:
    header = "username-localhost-8888=secret; nbws-5001-session_=abc; _xsrf=1; nbws-5001=token; nbws-5002-x=2"
    assert own_cookies(header, "nbws-5001-") == "session_=abc"


def test_of_foreign_cookies_nothing_is_left() -> None:
    assert own_cookies("username-localhost-8888=secret; _xsrf=1", "nbws-5001-") == ""


@pytest.mark.parametrize(
    ("header", "left"),
    [
        ("nbws-5001=secret; a=1; nbws-5002-session_=x; nbws-20123=secret; b", "a=1"),
        ("nbws-5001=secret", ""),
        ("nbws-theme=dark; my-nbws-1=2", "nbws-theme=dark; my-nbws-1=2"),
        ("a=1;b ; c", "a=1;b ; c"),
    ],
)
def test_a_script_sees_all_cookies_but_credentials_and_those_of_apps_in_notebooks(header: str, left: str) -> None:
    assert without_apps_cookies(header) == left


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


# -- what a browser is told


def told(policy: Policy, in_notebook: bool, status: int = 200, shared: bool = False, **given: str) -> dict[str, str]:
    given = {name.replace("_", "-"): value for name, value in given.items()}
    return dict(guards(policy, status, given, in_notebook=in_notebook, is_shared=shared))


def test_a_script_may_be_framed_and_loaded_by_its_own_pages_and_by_origins_that_are_listed() -> None:
    assert told(SCRIPT, in_notebook=False) == {
        "content-security-policy": "frame-ancestors 'self' https://hub.example.org",
        "cross-origin-resource-policy": "same-origin",
    }


def test_an_app_in_a_notebook_is_framed_by_jupyter_wherever_that_is_since_it_has_a_credential() -> None:
    assert told(NOTEBOOK, in_notebook=True) == {
        "referrer-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
    assert told(NOTEBOOK, in_notebook=True, shared=True) == {"referrer-policy": "same-origin"}


def test_an_app_in_a_notebook_that_asks_for_no_credential_is_framed_by_this_machines_pages_alone() -> None:
    ancestors = told(SCRIPT, in_notebook=True)["content-security-policy"]
    assert "http://localhost:* http://127.0.0.1:*" in ancestors
    assert "cross-origin-resource-policy" not in told(SCRIPT, in_notebook=True, shared=True)


def test_an_error_is_not_kept_and_not_taken_for_something_else() -> None:
    for status, headers in ((200, set()), (303, set()), (404, {"no-store", "nosniff"}), (500, {"no-store", "nosniff"})):
        assert {"no-store", "nosniff"} & set(told(NOTEBOOK, in_notebook=True, status=status).values()) == headers


def test_what_the_author_says_counts() -> None:
    own = {"referrer_policy": "no-referrer", "cross_origin_resource_policy": "cross-origin", "cache_control": "private"}
    assert told(NOTEBOOK, in_notebook=True, status=404, **own) == {"x-content-type-options": "nosniff"}
    assert "content-security-policy" not in told(SCRIPT, in_notebook=False, x_frame_options="DENY")
    csp = "default-src 'self'; frame-ancestors https://a.example"
    assert "content-security-policy" not in told(SCRIPT, in_notebook=False, content_security_policy=csp)
    other = told(SCRIPT, in_notebook=False, content_security_policy="default-src 'self'")
    assert other["content-security-policy"].startswith("frame-ancestors 'self'")
