"""A server that means harm, and what an agent's tools make of it."""

import io
import struct
import time
import zlib

import pytest
from golden import checkpoint_folder
from PIL import Image
from support import http_server

from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy
from langchain_internvl.backends.scripted import ScriptedBackend


def png(width=4, height=3):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width, height):
    """A PNG of a few hundred kilobytes that unpacks to gigabytes."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    packed = zlib.compress(b"\0" * 100_000_000, 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    )


def send(handler, body, kind="image/png", status=200, **headers):
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"\x89PNG" * 4096)
    except OSError:
        pass


def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        for byte in png() * 100:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)
    except OSError:
        pass


def redirect(where):
    return lambda handler: send(handler, b"", status=302, Location=where)


@pytest.fixture
def look():
    """Serves an answer, lets `describe_image` look at it, and gives what the agent is told."""
    seen = []
    llm = ChatInternVL(
        model=str(checkpoint_folder("qwen2")),
        backend=ScriptedBackend(lambda request: seen.append(request) or "A picture."),
    )

    def look(answer, name="describe_image", **limits):
        with http_server(answer) as address:
            port = int(address.rpartition(":")[2])
            policy = MediaPolicy(loopback_ports=[port], **limits)
            tools = {
                one.name: one for one in InternVLToolkit(llm=llm, media_policy=policy).get_tools()
            }
            field = "video" if name == "ask_video" else "image"
            call = {
                "type": "tool_call",
                "id": "1",
                "name": name,
                "args": {field: f"{address}/a.png"},
            }
            message = tools[name].invoke(call)
        assert message.status == "success" or not seen
        return message

    return look


def test_an_honest_picture_is_seen(look):
    assert look(lambda handler: send(handler, png())).content == "A picture."


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("http://169.254.169.254/latest/meta-data/", "not a public address"),
        ("http://127.0.0.1:1/a.png", "not a public address"),
        ("http://[::1]:1/a.png", "not a public address"),
        ("http://[::ffff:127.0.0.1]:1/a.png", "not a public address"),
        ("http://10.0.0.1/a.png", "not a public address"),
        ("http://0.0.0.0:1/", "not a public address"),
        ("http://224.0.0.1/", "not a public address"),
        ("http://localhost:1/a.png", "not a public address"),
        ("file:///etc/passwd", "only http and https"),
        ("gopher://127.0.0.1/", "only http and https"),
        ("data:image/png;base64,AAAA", "only http and https"),
    ],
)
def test_redirects_lead_nowhere_private(where, said, look):
    message = look(redirect(where))
    assert message.status == "error"
    assert said in message.content


def test_redirects_end(look):
    assert "more than 5 redirects" in look(redirect("/again")).content


def test_hosts_that_are_not_allowed_are_not_asked(look):
    message = look(lambda handler: send(handler, png()), allowed_hosts=["example.com"])
    assert "not in MediaPolicy.allowed_hosts" in message.content


def test_endless_and_slow_answers_end(look):
    assert "max_bytes" in look(endless, max_bytes=10**6).content
    assert "not downloaded within" in look(drip, timeout=1).content


def test_bombs_are_not_unpacked(look):
    for size in ((60_000, 60_000), (9_000, 9_000)):
        message = look(lambda handler, size=size: send(handler, bomb(*size)), max_pixels=10**7)
        assert message.status == "error"
        assert "pixels" in message.content


@pytest.mark.parametrize("kind", ["text/html", "application/pdf", "video/mp4", ""])
def test_what_a_file_is_its_bytes_say(kind, look):
    assert look(lambda handler: send(handler, png(), kind)).content == "A picture."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><script>alert(1)</script></html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"#!/bin/sh\nreboot",
        b"%PDF-1.7 " + png(),
        png()[:40],
    ],
    ids=["empty", "html", "eps", "svg", "script", "pdf before png", "half"],
)
def test_what_is_no_picture_is_said_to_be_none(body, look):
    message = look(lambda handler: send(handler, body))
    assert message.status == "error"
    assert "Traceback" not in message.content


def test_a_picture_with_something_behind_it_is_just_that_picture(look):
    """GIFs that are also scripts, PNGs that are also archives: only the picture is read."""
    gif = io.BytesIO()
    Image.new("P", (4, 3)).save(gif, "GIF")
    for body in (png() + b"PK\x03\x04 an archive", gif.getvalue() + b"*/=1;alert(1)"):
        assert look(lambda handler, body=body: send(handler, body)).content == "A picture."


def test_playlists_name_no_other_files(look):
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n"
    message = look(lambda handler: send(handler, playlist, "video/mp4"), "ask_video")
    assert message.status == "error"
    assert "root:" not in message.content
