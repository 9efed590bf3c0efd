"""Where bytes come from."""

import base64
import pickle

import pytest
from golden import GOLDEN

from langchain_internvl.errors import MediaError, MediaTooLargeError, UnsupportedMediaError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import (
    Base64Source,
    BytesSource,
    PathSource,
    UrlSource,
    decode_base64,
    to_source,
    to_url_source,
)

POLICY = MediaPolicy()
FILE = GOLDEN / "images/mode_p.png"
DATA = FILE.read_bytes()
DATA_URL = "data:image/png;base64," + base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "value", [DATA, bytearray(DATA), memoryview(DATA), FILE, str(FILE), FILE.as_uri(), DATA_URL]
)
def test_everything_a_program_may_pass_gives_the_same_bytes(value):
    assert to_source(value, "test").read(POLICY) == DATA


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", str(FILE.parent))
    assert to_source("~/mode_p.png", "test").read(POLICY) == DATA


def test_urls_are_not_opened_before_they_are_read():
    assert to_source("https://example.com/a.png", "test") == UrlSource("https://example.com/a.png")


@pytest.mark.parametrize("value", [None, 7, 1.5, [DATA], {"path": "x"}, object()])
def test_other_types_are_refused(value):
    with pytest.raises(UnsupportedMediaError, match="of type"):
        to_source(value, "test")


@pytest.mark.parametrize(
    "url",
    [
        FILE.as_uri(),
        str(FILE),
        "FILE:///etc/passwd",
        "ftp://example.com/a",
        "mode_p.png",
        "",
        "gs://a/b",
    ],
)
def test_a_url_field_never_names_a_file(url):
    with pytest.raises(UnsupportedMediaError, match="url field"):
        to_url_source(url, "test")


def test_data_urls_with_and_without_base64():
    assert to_url_source(DATA_URL, "test").read(POLICY) == DATA
    assert to_url_source("data:text/plain,a%20b", "test").read(POLICY) == b"a b"
    assert (
        to_url_source("DATA:image/png;BASE64," + base64.b64encode(b"x").decode(), "t").read(POLICY)
        == b"x"
    )
    with pytest.raises(MediaError, match="without data"):
        to_url_source("data:image/png;base64", "test")


def test_base64_may_be_wrapped_unpadded_or_url_safe():
    raw = bytes(range(256))
    text = base64.encodebytes(raw).decode()
    assert decode_base64(text, "test") == raw
    assert decode_base64(text.rstrip("=\n"), "test") == raw
    assert decode_base64(base64.urlsafe_b64encode(raw).decode(), "test") == raw


@pytest.mark.parametrize("text", ["no base64!", "äöü", "a", "ab==cd==", "YW=Jj", "-_-!"])
def test_broken_base64_is_a_typed_error(text):
    with pytest.raises(MediaError, match="base64"):
        decode_base64(text, "test")


def test_files_that_are_not_there_or_no_files(tmp_path):
    with pytest.raises(MediaError, match="no such file"):
        PathSource(tmp_path / "missing.png").read(POLICY)
    with pytest.raises(MediaError, match="not a regular file"):
        PathSource(tmp_path).read(POLICY)
    with pytest.raises(MediaError):
        to_source("with\0zero.png", "test").read(POLICY)


@pytest.mark.parametrize("size", [180, 600, 9000])
def test_base64_that_is_passed_as_a_path_is_explained(size):
    text = base64.b64encode(bytes(size)).decode()  # longer than names of files may be, but for 180
    with pytest.raises(MediaError, match="base64 belongs under the key base64"):
        to_source(text, "test").read(POLICY)


def test_device_files_are_not_read():
    with pytest.raises(MediaError, match="not a regular file"):
        to_source("/dev/zero", "test").read(POLICY)


def test_size_limit_holds_for_every_source(tmp_path):
    small = MediaPolicy(max_bytes=10)
    file = tmp_path / "large"
    file.write_bytes(bytes(11))
    encoded = base64.b64encode(bytes(11)).decode()
    for source in (BytesSource(bytes(11), "t"), PathSource(file), Base64Source(encoded, "t")):
        with pytest.raises(MediaTooLargeError, match="max_bytes=10"):
            source.read(small)
    assert BytesSource(bytes(10), "t").read(small) == bytes(10)


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_line_breaks_of_base64_do_not_count(line_break):
    policy = MediaPolicy(max_bytes=3000)
    wrapped = base64.encodebytes(bytes(3000)).decode().replace("\n", line_break)
    assert Base64Source(wrapped, "t").read(policy) == bytes(3000)
    for size in (3001, 9000):
        large = base64.encodebytes(bytes(size)).decode().replace("\n", line_break)
        with pytest.raises(MediaTooLargeError):
            Base64Source(large, "t").read(policy)


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(MediaTooLargeError("a.png", "too large")))
    assert isinstance(error, MediaTooLargeError)
    assert (error.source, error.reason, str(error)) == ("a.png", "too large", "a.png: too large")
