"""A recorded session as a document: what it holds, what it never holds, and that it is read as it was written."""

from __future__ import annotations

import json

import pytest

from nbws.playback import Entry, Participant, Playback, PlaybackError, PlaybackPage, opens
from nbws.transcript import CLOSED, OPENED, RECEIVED, SENT, Line

PAGE = (
    '<!doctype html>\n<html><head><script src="/_nbws/static/nbws.js" data-root="" data-page="abc"></script>'
    '<script src="/_nbws/static/htmx.min.js"></script></head>'
    '<body><ul id="lines"></ul><main hx-ext="ws" ws-connect="/chat"></main></body></html>'
)


def line(kind: str, *connections: str, data: str | bytes | None = None, at: float = 0.0, url: str = "/chat") -> Line:
    return Line(
        1, kind, "/chat", url, list(connections), data, len(data or ""), 1 if kind == RECEIVED else None, time=at
    )


def a_session() -> Playback:
    page = PlaybackPage("/", PAGE)
    lines = [
        line(OPENED, "a", at=100.0),
        line(OPENED, "b", at=100.123),
        line(RECEIVED, "a", data='{"text": "hi", "HEADERS": {}}', at=101.0),
        line(SENT, "a", "b", data='<ul id="lines"><li>hi</li></ul>', at=101.004),
        line(SENT, "b", data=b"\x00\x01", at=101.5),
        line(CLOSED, "b", at=102.0),
    ]
    return Playback.of(lines, {"a": page, "b": PlaybackPage("/", PAGE)}, title="Chat")


def test_a_session_is_read_as_it_was_written() -> None:
    session = a_session()
    assert Playback.loads(session.dumps()) == session
    assert session.dumps() == a_session().dumps()


def test_two_pages_that_were_loaded_are_two_clients_and_a_fragment_for_both_stands_once() -> None:
    session = a_session()
    assert [(each.name, each.path) for each in session.clients] == [("client 1", "/"), ("client 2", "/")]
    assert session.entries[:2] == (Entry(0.0, OPENED, (0,), "/chat"), Entry(0.12, OPENED, (1,), "/chat"))
    assert session.entries[3].clients == (0, 1)
    assert session.heard_by(1) == ['<ul id="lines"><li>hi</li></ul>']
    assert (session.seconds, session.messages) == (2.0, 1)


def test_a_line_of_the_file_is_one_thing_that_was_said() -> None:
    text = a_session().dumps()
    assert json.loads(text)["pages"] == [PAGE_WITHOUT_OWN.replace("><", ">\0<").replace(">\n", ">\n\0").split("\0")]
    assert '{"at": 1.0, "client": 0, "says": {"text": "hi"}, "version": 1},\n' in text
    assert '{"at": 1.0, "to": [0, 1], "html": "<ul id=\\"lines\\"><li>hi</li></ul>"},\n' in text
    assert '{"at": 2.0, "client": 1, "leaves": true}\n' in text


PAGE_WITHOUT_OWN = PAGE.replace('<script src="/_nbws/static/nbws.js" data-root="" data-page="abc"></script>', "")


def test_nbws_own_script_which_needs_a_server_is_in_no_recorded_page() -> None:
    assert a_session().clients[0].page == PAGE_WITHOUT_OWN


def test_the_fields_of_a_message_stand_as_fields() -> None:
    session = Playback.of([line(OPENED, "a"), line(RECEIVED, "a", data='{"text": "hi"}')])
    assert '"says": {"text": "hi"}' in session.dumps()
    assert Playback.loads(session.dumps()) == session


def test_two_websockets_of_one_page_are_one_client() -> None:
    page = PlaybackPage("/", PAGE)
    lines = [
        line(OPENED, "a", url="/chat"),
        line(OPENED, "b", url="/presence"),
        line(SENT, "b", data="<p>here</p>", url="/presence"),
        line(CLOSED, "a", url="/chat"),
        line(OPENED, "c", url="/chat"),  # the same once more: the page was loaded again
    ]
    session = Playback.of(lines, dict.fromkeys("abc", page))
    assert [each.clients for each in session.entries] == [(0,), (0,), (0,), (0,), (1,)]
    assert '"to": [0], "html": "<p>here</p>", "on": "/presence"' in session.dumps()
    assert Playback.loads(session.dumps()) == session


def test_what_was_sent_to_websockets_of_two_addresses_says_which() -> None:
    lines = [
        line(OPENED, "a", url="/chat/a"),
        line(OPENED, "b", url="/chat/b"),
        line(SENT, "a", "b", data="<p>all</p>"),
    ]
    session = Playback.of(lines)
    assert [(each.url, each.clients) for each in session.entries[2:]] == [("/chat/a", (0,)), ("/chat/b", (1,))]
    assert Playback.loads(session.dumps()) == session


def test_a_client_whose_page_is_not_known_has_none() -> None:
    session = Playback.of([line(OPENED, "a", url="/chat?x=1")])
    assert session.clients == (Participant("client 1", "/chat?x=1", None),)


def test_what_was_said_on_connections_that_were_open_before_is_not_in_it() -> None:
    session = Playback.of([line(OPENED, "a"), line(SENT, "z", "a", data="<p>x</p>"), line(RECEIVED, "z", data="{}")])
    assert [(each.kind, each.clients) for each in session.entries] == [(OPENED, (0,)), (SENT, (0,))]


def test_no_secret_is_in_it_however_it_is_written() -> None:
    secret = 'a"b<c&d e'
    page = PlaybackPage(
        "/?token=tok-canary",
        '<input type="hidden" name="csrf_token" value="csrf-canary"><p>csrf-canary</p>'
        '<form hx-vals="{&quot;token&quot;: &quot;vals-canary&quot;}" ws-connect="/chat">',
    )
    lines = [
        line(OPENED, "a", url="/chat?token=url-canary&room=1"),
        line(RECEIVED, "a", data=json.dumps({"password": "word-canary", "text": secret})),
        line(SENT, "a", data="<p>url-canary vals-canary a&quot;b&lt;c&amp;d e</p>"),
        line(SENT, "a", data='{"x": "a\\"b<c&d e"}'),
        line(SENT, "a", data=secret.encode() + b"\x00"),
    ]
    names = ("password", "token", "csrf_token")
    session = Playback.of(lines, {"a": page}, redacted=names, secrets=[secret, "ab", ""])
    text = session.dumps()
    assert "canary" not in text
    assert "c&d" not in text
    assert "c&amp;d" not in text
    assert session.entries[0].url == "/chat?token=%28redacted%29&room=1"
    assert session.entries[1].data == '{"password": "(redacted)", "text": "(redacted)"}'
    assert session.entries[-1] == Entry(0.0, SENT, (0,), session.entries[0].url, None, 10)
    assert Playback.loads(text) == session


def test_another_format_is_refused_and_says_what_to_do() -> None:
    other = a_session().dumps().replace("nbws replay 1", "nbws replay 7")
    with pytest.raises(
        PlaybackError, match=r"chat.replay.json is of the format 'nbws replay 7'.*record the session again"
    ):
        Playback.loads(other, "chat.replay.json")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "nbws replay 1"}', a_session().dumps().replace('"client": 1', '"client": 9')]
)
def test_what_is_damaged_is_refused(text: str) -> None:
    with pytest.raises(PlaybackError, match="the file"):
        Playback.loads(text)


def test_a_page_is_known_by_the_websocket_that_it_opens() -> None:
    assert opens('<div ws-connect="/chat?x=1">', "/chat?y=2")
    assert opens("<div ws-connect='ws://127.0.0.1:5001/chat'>", "/chat")
    assert not opens('<div ws-connect="/chat">', "/other")


def test_files_that_the_app_serves_are_known_by_their_address_and_put_in_its_place() -> None:
    page = PlaybackPage(
        "/rooms/a",
        '<link rel="stylesheet" href="/x.css"><link rel="icon" href="/i.png"><script src=\'../x.js\'></script>'
        '<script src="/_nbws/static/htmx.min.js"></script><img alt="1 > 0" src="pic.png?a=1&amp;b=2"><a href="/x.css">'
        '<img src="data:image/png;base64,AA"><img src="https://a.example/y.png"><p ws-connect="/chat">',
    )
    lines = [line(OPENED, "a"), line(SENT, "a", data='<img id="n" src="/new.png">')]
    session = Playback.of(lines, {"a": page})
    assert session.files() == {"/x.css", "/x.js", "/rooms/pic.png?a=1&b=2", "/new.png"}
    filled = session.with_files({"/x.css": "data:text/css,x", "/rooms/pic.png?a=1&b=2": "data:p", "/new.png": "data:n"})
    assert filled.heard_by(0) == ['<img id="n" src="data:n">']
    html = filled.clients[0].page or ""
    assert '<link rel="stylesheet" href="data:text/css,x">' in html
    assert '<img alt="1 > 0" src="data:p">' in html
    assert '<a href="/x.css">' in html
    assert "src='../x.js'" in html  # which was not given
    assert session.with_files({}) is session


def test_a_browser_that_loads_a_page_in_place_of_one_that_is_gone_is_the_same_client() -> None:
    ada, bob = object(), object()
    first = PlaybackPage("/", '<p id="a">first</p>', ada)
    second = PlaybackPage("/", '<p id="a">second, pin-canary</p>', ada)
    tab, other = PlaybackPage("/", "<p>tab</p>", ada), PlaybackPage("/", "<p>other</p>", bob)
    lines = [
        line(OPENED, "1"),
        line(OPENED, "2"),  # another browser
        line(SENT, "1", "2", data='<p id="a">old</p>'),
        line(CLOSED, "1"),
        line(OPENED, "3"),
        line(OPENED, "4"),  # a second tab, while the first is there
        line(SENT, "3", data='<p id="a">new</p>'),
    ]
    session = Playback.of(lines, {"1": first, "2": other, "3": second, "4": tab}, secrets=["pin-canary"])
    assert [each.page for each in session.clients] == ['<p id="a">first</p>', "<p>other</p>", "<p>tab</p>"]
    assert [each.clients for each in session.entries] == [(0,), (1,), (0, 1), (0,), (0,), (2,), (0,)]
    assert session.last_page(0) == ('<p id="a">second, (redacted)</p>', ['<p id="a">new</p>'])
    assert session.last_page(1) == ("<p>other</p>", ['<p id="a">old</p>'])
    assert '{"at": 0.0, "client": 0, "connects": "/chat", "page": 3}' in session.dumps()
    assert Playback.loads(session.dumps()) == session
