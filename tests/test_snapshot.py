"""What a page looked like in the end, as htmx would have made it."""

from __future__ import annotations

import pytest

from nbws.snapshot import after_fragments, external_addresses, without_scripts

PAGE = (
    '<!DOCTYPE html><html lang="en"><head><title>x</title></head><body><h1 id="n:1">a</h1><ul id="l"><li>a</li></ul>'
    '<table><tbody id="tb"><tr id="r1"><td>1</td></tr></tbody></table>'
    '<svg id="s" viewBox="0 0 1 1"><path id="p" d="M0"></path></svg></body></html>'
)


@pytest.mark.parametrize(
    ("fragment", "before", "after"),
    [
        ('<ul id="l" hx-swap-oob="true"><li>b</li></ul>', "<li>a</li>", "<li>b</li>"),
        ('text <h1 id="n:1">N</h1> text', ">a</h1>", ">N</h1>"),
        ('<ul hx-swap-oob="beforeend:#l"><li>b</li><li>c</li></ul>', "a</li>", "a</li><li>b</li><li>c</li>"),
        ('<ul hx-swap-oob="afterbegin:#l"><li>b</li><li>c</li></ul>', "<li>a", "<li>b</li><li>c</li><li>a"),
        ('<p hx-swap-oob="beforebegin:#l">b<b>c</b></p>', "<ul", "b<b>c</b><ul"),
        ('<p hx-swap-oob="afterend:#l">b<b>c</b></p>', "</ul>", "</ul>b<b>c</b>"),
        ('<ul id="l" data-hx-swap-oob="innerHTML">b<li>c</li></ul>', "<li>a</li>", "b<li>c</li>"),
        ('<tr id="r1" hx-swap-oob="true"><td>2</td></tr>', "<td>1", "<td>2"),
        ('<tbody hx-swap-oob="beforeend:#tb"><tr><td>3</td></tr></tbody>', "</tbody>", "<tr><td>3</td></tr></tbody>"),
        ('<svg id="s" viewBox="0 0 2 2"></svg>', '1 1"><path id="p" d="M0"></path>', '2 2">'),
        ('<i hx-swap-oob="delete:#l"></i>', '<ul id="l"><li>a</li></ul>', ""),
        ('<ul id="l" hx-swap-oob="none"></ul>', "", ""),
        ('<p id="nowhere">x</p><p>no id</p> text', "", ""),
        ('<p hx-swap-oob="beforeend:closest form">x</p>', "", ""),
        ('<h1 id="n:1">1</h1><h1 id="n:1">2</h1>', ">a</h1>", ">2</h1>"),
    ],
)
def test_a_fragment_is_swapped_in_as_htmx_does(fragment: str, before: str, after: str) -> None:
    assert after_fragments(PAGE, [fragment]) == PAGE.replace(before, after, 1)


def test_fragments_come_in_their_order() -> None:
    fragments = ['<ul id="l"><li>1</li></ul>', '<ul hx-swap-oob="beforeend:#l"><li>2</li></ul>']
    assert '<ul id="l"><li>1</li><li>2</li></ul>' in after_fragments(PAGE, fragments)


def test_nothing_that_runs_is_left() -> None:
    page = PAGE.replace("</head>", '<script src="x.js"></script><link rel="preload" href="y"></head>')
    assert without_scripts(page) == PAGE


def test_what_would_be_loaded_from_elsewhere_is_named_and_links_are_not() -> None:
    page = PAGE.replace(
        "</body>", '<img src="https://a.example/x.png"><img src="/y.png"><a href="https://b.example"></a>'
    )
    page = page.replace("</head>", '<link rel="stylesheet" href="//cdn.example/z.css"></head>')
    assert external_addresses(page) == ["//cdn.example/z.css", "https://a.example/x.png"]
