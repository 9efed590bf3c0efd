"""Downloads, with a server on loopback that plays the attackers."""

import contextlib
import gzip
import ipaddress
import socket
import time

import pytest
from patience import PATIENCE
from support import http_server

from langchain_internvl.errors import MediaFetchError, MediaTooLargeError
from langchain_internvl.media.fetch import fetch
from langchain_internvl.media.policy import MediaPolicy, is_public

LOCAL = MediaPolicy(allow_private_hosts=True, timeout=PATIENCE, max_bytes=1000)


def send(handler, body=b"picture", status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_download():
    asked = []

    def answer(handler):
        asked.append((handler.path, handler.headers["Host"], handler.headers["Accept-Encoding"]))
        send(handler)

    with http_server(answer) as address:
        assert fetch(f"{address}/a.png?x=1", LOCAL) == b"picture"
        host = address.removeprefix("http://")
    assert asked == [("/a.png?x=1", host, "identity")]


def test_very_long_timeouts_are_none():
    with http_server(send) as address:
        policy = LOCAL.model_copy(update={"timeout": 1e10})
        assert fetch(f"{address}/a.png", policy) == b"picture"


def test_loopback_is_refused_by_default():
    reached = []
    with http_server(reached.append) as address:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433"):
            url = address.replace("127.0.0.1", host)
            with pytest.raises(MediaFetchError):
                fetch(url, MediaPolicy())
    assert not reached


def test_single_ports_of_this_machine_can_be_allowed():
    with http_server(send) as address, http_server(send) as other:
        policy = MediaPolicy(loopback_ports=[int(address.rpartition(":")[2])])
        assert fetch(address, policy) == b"picture"
        with pytest.raises(MediaFetchError, match="not a public address"):
            fetch(other, policy)


def test_every_address_of_a_host_is_checked(monkeypatch):
    found = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(MediaFetchError, match=r"10\.0\.0\.1"):
        fetch("http://example.com/a.png", MediaPolicy())


def test_the_connection_goes_to_the_checked_address(monkeypatch):
    """A name that resolves differently a moment later changes nothing."""
    asked, hosts = [], []

    def answer(handler):
        hosts.append(handler.headers["Host"])
        send(handler)

    with http_server(answer) as address:
        port = int(address.rsplit(":", 1)[1])

        def look_up(host, *args, **kwargs):
            asked.append(host)
            if host in {"example.com", "127.0.0.1"}:
                return [(2, 1, 6, "", ("127.0.0.1", port))]
            raise OSError(host)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with pytest.raises(MediaFetchError, match="not a public address"):
            fetch(f"http://example.com:{port}/", MediaPolicy())
        assert (asked, hosts) == (["example.com"], [])
        assert fetch(f"http://example.com:{port}/", LOCAL) == b"picture"
    # After the name, only the address that was checked is asked for.
    assert asked[1:] == ["example.com", "127.0.0.1"]
    assert hosts == [f"example.com:{port}"]


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch):
    with http_server(send) as address:
        port = int(address.rsplit(":", 1)[1])
        real = socket.getaddrinfo
        both = [(10, 1, 6, "", ("::1", port)), (2, 1, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda h, *a, **k: both if h == "two.test" else real(h, *a, **k)
        )
        assert fetch(f"http://two.test:{port}/", LOCAL) == b"picture"


def test_names_are_asked_for_as_the_browser_would(monkeypatch):
    """Python's own codec turns faß.de into another host, fass.de."""
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: asked.append(host) or [])
    with pytest.raises(MediaFetchError):
        fetch("http://faß.de/a.png", MediaPolicy())
    assert asked == ["xn--fa-hia.de"]


def test_redirects_are_followed_and_checked():
    def answer(handler):
        if handler.path == "/start":
            send(handler, b"", 302, Location="/middle")
        elif handler.path == "/middle":
            send(handler, b"", 301, Location=f"http://{handler.headers['Host']}/end")
        elif handler.path == "/file":
            send(handler, b"", 302, Location="file:///etc/passwd")
        elif handler.path == "/broken":
            send(handler, b"", 302, Location="http://[::1/")
        elif handler.path == "/loop":
            send(handler, b"", 302, Location="/loop")
        else:
            send(handler)

    with http_server(answer) as address:
        assert fetch(f"{address}/start", LOCAL) == b"picture"
        with pytest.raises(MediaFetchError, match="http and https"):
            fetch(f"{address}/file", LOCAL)
        with pytest.raises(MediaFetchError):
            fetch(f"{address}/broken", LOCAL)
        with pytest.raises(MediaFetchError, match="redirects"):
            fetch(f"{address}/loop", LOCAL)
        with pytest.raises(MediaFetchError, match="more than 1 redirects"):
            fetch(f"{address}/start", LOCAL.model_copy(update={"max_redirects": 1}))


def test_a_redirect_cannot_lead_to_a_private_address(monkeypatch):
    allowed = {"127.0.0.1"}
    policy_type = type(LOCAL)
    monkeypatch.setattr(
        policy_type, "allows_address", lambda self, address, port: address in allowed
    )
    with (
        http_server(
            lambda handler: send(
                handler, b"", 302, Location="http://169.254.169.254/latest/meta-data"
            )
        ) as address,
        pytest.raises(MediaFetchError, match=r"169\.254\.169\.254"),
    ):
        fetch(address, MediaPolicy())


def test_too_large_is_refused_while_it_arrives():
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100_000):
                handler.wfile.write(bytes(1000))
                sent.append(1000)
        except OSError:
            pass

    with http_server(endless) as address, pytest.raises(MediaTooLargeError):
        fetch(address, LOCAL)
    assert sum(sent) < 50_000_000


def test_a_slow_server_is_given_up():
    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    with http_server(drip) as address, pytest.raises(MediaFetchError, match="timeout"):
        fetch(address, LOCAL.model_copy(update={"timeout": 0.3}))


def drip_headers(handler):
    for _ in range(100):
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.05)


def drip_one_header(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        handler.wfile.write(b"X-%d: x\r\n" % number)
        time.sleep(0.05)


@pytest.mark.parametrize("drip", [drip_headers, drip_one_header])
def test_the_deadline_holds_before_the_body_too(drip):
    def answer(handler):
        with contextlib.suppress(OSError):
            drip(handler)

    with http_server(answer) as address, pytest.raises(MediaFetchError, match="timeout"):
        fetch(address, LOCAL.model_copy(update={"timeout": 0.3}))


def test_a_slow_look_up_is_given_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: time.sleep(5) or [])
    with pytest.raises(MediaFetchError, match="timeout"):
        fetch("http://example.com/", MediaPolicy(timeout=0.2))


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br, gzip"])
def test_compressed_answers_are_refused_unread(encoding):
    bomb = gzip.compress(bytes(10_000_000))
    with (
        http_server(lambda handler: send(handler, bomb, **{"Content-Encoding": encoding})) as url,
        pytest.raises(MediaFetchError, match="compressed"),
    ):
        fetch(url, LOCAL.model_copy(update={"max_bytes": 10**6}))


def test_a_length_over_the_limit_is_refused_at_once():
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1001")
        handler.end_headers()

    with http_server(answer) as address, pytest.raises(MediaTooLargeError):
        fetch(address, LOCAL)


@pytest.mark.parametrize("status", [204, 403, 404, 500])
def test_other_answers_are_errors(status):
    with (
        http_server(lambda handler: send(handler, b"", status)) as address,
        pytest.raises(MediaFetchError, match=str(status)),
    ):
        fetch(address, LOCAL)


def test_cut_off_answers_and_closed_ports_are_errors():
    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"short")

    with http_server(cut) as address, pytest.raises(MediaFetchError, match="download failed"):
        fetch(address, LOCAL)
    with pytest.raises(MediaFetchError, match="download failed"):
        fetch(address, LOCAL)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "https:///a",
        "http://no such host/",
        "http://.invalid/",
        "http://a:99999999/",
        "http://127.0.0.1:99999999999999999999999/",
        "http://[::1/",
        "http://xn--/",
        "http://user:secret@example.com/",
        "http://\udcff/",
        "http://" + "a" * 70 + ".com/",
    ],
)
def test_broken_urls_are_typed_errors(url):
    with pytest.raises(MediaFetchError):
        fetch(url, MediaPolicy())


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with http_server(send) as address:
        assert fetch(address, LOCAL) == b"picture"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::7f00:1", False),
        ("fec0::1", False),
        ("64:ff9b:1::a00:1", False),
        ("168.63.129.16", False),
        ("::ffff:93.184.216.34", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_public_addresses(address, public):
    assert is_public(ipaddress.ip_address(address)) is public
