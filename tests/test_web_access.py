"""Who may ask a server: host names and web pages."""

from __future__ import annotations

import pytest

from lstmkit.web_access import LOOPBACK, is_host_allowed, is_origin_allowed


def headers_of(*pairs: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]", "[::1]:65535"])
def test_names_of_this_machine_are_allowed(host: str):
    assert is_host_allowed(headers_of(("host", host)), LOOPBACK)


@pytest.mark.parametrize(
    "host",
    [
        *("", ":80", "evil.example", "localhost.evil.example", "evil.example:80", "localhost.", "127.0.0.1.", "::1"),
        *("localhost:evil", "localhost:", "localhost:123456", "localhost:80:80", "evil.example@localhost", "[::1"),
        *("localhost@evil.example", "localhost/evil", "localhost?", "localhost#", " localhost", "localhost\n", "[]"),
        *("http://localhost", "localhost\\", "localh\u00f6st", "0.0.0.0", "[localhost]", "localhost,evil.example"),
    ],
)  # fmt: skip
def test_other_names_are_refused(host: str):
    assert not is_host_allowed(headers_of(("host", host)), LOOPBACK)


def test_a_host_is_named_once():
    twice = headers_of(("host", "localhost"), ("host", "evil.example"))
    assert not is_host_allowed(headers_of(), LOOPBACK)
    assert not is_host_allowed(twice, LOOPBACK)
    assert not is_host_allowed(twice[::-1], LOOPBACK)
    assert not is_origin_allowed([*twice, (b"origin", b"http://localhost")])


def test_names_can_be_other_ones_or_any():
    headers = headers_of(("host", "models.example:443"))
    assert is_host_allowed(headers, ("Models.Example",))
    assert is_host_allowed(headers, ())
    assert is_host_allowed(headers_of(("host", "[fe80::1]")), ("[fe80::1]",))
    assert not is_host_allowed(headers, LOOPBACK)


@pytest.mark.parametrize("origin", ["http://localhost:80", "https://localhost:80", "HTTP://LocalHost:80"])
def test_pages_of_the_server_are_allowed(origin: str):
    assert is_origin_allowed(headers_of(("host", "localhost:80"), ("origin", origin)), required=True)


@pytest.mark.parametrize(
    "origin",
    [
        *("", "null", "http://", "://localhost:80", "localhost:80", "http://localhost", "http://localhost:81"),
        *("http://127.0.0.1:80", "http://localhost:80.evil.example", "http://localhost:80@evil.example"),
        *("http://evil@localhost:80", "http://localhost:80/", "http://[", "ftp://localhost:80", "file://localhost:80"),
        *("http://evil.example", "http://page.example", "https://page.example.evil.example"),
        "http://localhost:80 http://evil.example",
    ],
)  # fmt: skip
def test_other_pages_are_refused(origin: str):
    headers = headers_of(("host", "localhost:80"), ("origin", origin))
    assert not is_origin_allowed(headers)
    assert not is_origin_allowed(headers, ("https://page.example",))


def test_further_pages_and_no_page():
    page = headers_of(("host", "localhost"), ("origin", "https://page.example"))
    assert is_origin_allowed(page, ("https://Page.example",))
    assert is_origin_allowed(headers_of(("host", "localhost")))
    assert not is_origin_allowed(headers_of(("host", "localhost")), required=True)
    assert not is_origin_allowed([*page, (b"origin", b"https://page.example")], ("https://page.example",))
    assert not is_origin_allowed(headers_of(("origin", "http://")), required=True)
