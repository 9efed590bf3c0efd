"""No error, repr or trace has a known secret."""

import base64
import gc
import html
import json
import logging
import traceback
from urllib.parse import quote, quote_plus

import httpx
import pytest
from fault_server import FaultServer, chunk, data, lines, send
from langchain_core.load import dumps

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.server.client import ServerAddress
from langchain_internvl.backends.server.log_masking import mask_logs
from langchain_internvl.backends.server.redaction import MASK, Redactor, secrets_of
from langchain_internvl.errors import InternVLError

KEY = "sk-Ab/9+q=\"z\\9&<x>'k"
HEADER = "tok-7788-secret"
ENCODINGS = {
    "plain": str, "url": quote, "url, all": lambda key: quote(key, safe=""),
    "form": quote_plus, "twice": lambda key: quote(quote(key, safe=""), safe=""),
    "json": lambda key: json.dumps(key)[1:-1], "python": lambda key: repr(key)[1:-1],
    "html": html.escape, "upper": str.upper,
    "unicode": lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "basic": lambda key: base64.b64encode(f"me:{key}".encode()).decode(),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("secret", [KEY, "hush", HEADER])
def test_every_encoding_is_masked(name, secret):
    spelled = ENCODINGS[name](secret)
    masked = Redactor([secret]).mask(f"the key {spelled} is wrong")
    assert masked.startswith("the key ")
    assert masked.endswith(" is wrong")
    middle = spelled[3:-3]  # empty where the secret is short
    assert not middle or middle not in masked or name in {"base64", "basic"}
    assert spelled not in masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key sk-0123456789abcdef is", "key ********** is"),
        ("key sk-0123456789ab... is", "key **********... is"),
        ("key SK-0123456789AB", "key **********"),
        ("456789abcdef, 3456789abcdef", "**********, **********"),
        ("sk-012345678 sk-01...cdef", "********** sk-01...cdef"),
        ("sk-01234567", "sk-01234567"),
        ("sk-0123456789absk-0123456789ab", "**********"),
    ],
)
def test_parts_of_a_secret_are_masked(text, masked):
    assert Redactor(["sk-0123456789abcdef", ""]).mask(text) == masked


def test_shortening_leaves_no_part_of_a_secret():
    for start in range(990, 1002):
        quoted = Redactor([HEADER]).quote("x" * start + HEADER)
        assert "tok" not in quoted


def chain(error):
    """An error, its causes and its contexts, each once, as they may share one another."""
    found, waiting = [], [error]
    while waiting:
        one = waiting.pop()
        assert one is None or one.__cause__ is not one, "an error is its own cause"
        if one is not None and one not in found:
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found


ECHOES = {
    "401": lambda said: lambda handler: send(handler, 401, json.dumps({"message": said}).encode()),
    "500": lambda said: lambda handler: send(handler, 500, said.encode()),
    "400": lambda said: lambda handler: send(handler, 400, json.dumps({"detail": said}).encode()),
    "stream": lambda said: lines(data({"error": {"message": said, "code": 500}})),
    "middle": lambda said: lines(chunk({"content": "a"}), data({"error": {"message": said}})),
    "no JSON": lambda said: lines("data: {" + said),
    "no choices": lambda said: lines(data({"echo": said})),
    "odd choice": lambda said: lines(data({"choices": [{"delta": said}]})),
    "given up": lambda said: lines(chunk({"content": "a"}, {"type": [said]})),
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("pad", [0, 190, 495, 990])
def test_no_error_has_a_secret(echo, pad):
    said = "x" * pad + f" {KEY} {HEADER} {quote(KEY, safe='')}"
    server = FaultServer(ECHOES[echo](said), models=({"id": "vl", "owned_by": "vllm"},))
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, api_key=KEY, max_retries=0,
                           default_headers={"X-Token": HEADER})  # fmt: skip
        with pytest.raises(InternVLError) as caught:
            llm.invoke("x")
        llm.close()
    assert {k.lower(): v for k, v in server.headers[-1].items()}["x-token"] == HEADER
    told = ["".join(traceback.format_exception(caught.value))]
    for error in chain(caught.value):
        told += [str(error), repr(error)]
    told += [repr(llm), dumps(llm), str(llm._identifying_params), llm.model_dump_json(),
             llm._get_llm_string()]  # fmt: skip
    for one in told:
        for secret in (KEY, HEADER, json.dumps(KEY)[1:-1], quote(KEY, safe="")):
            assert secret not in one


@pytest.mark.parametrize("pad", [0, 995])
def test_no_kept_reason_and_no_warning_has_a_secret(pad):
    reason = "x" * pad + f" {KEY} {HEADER} {quote(KEY, safe='')}"
    parts = [{"type": KEY}, {"type": "text", "text": "a"}]
    server = FaultServer(lines(chunk({"content": parts}, reason)))
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, api_key=KEY, server_prompt="messages",
                           default_headers={"X-Token": HEADER})  # fmt: skip
        with pytest.warns(UserWarning, match="the server") as warned:
            reply = llm.invoke("x")
        llm.close()
    assert reply.content == "a"
    told = [repr(reply.response_metadata), *(str(one.message) for one in warned)]
    assert any("unknown type" in one for one in told)
    assert any("which is not known here" in one for one in told)
    for one in told:
        for secret in (KEY, HEADER, HEADER[:8], json.dumps(KEY)[1:-1], quote(KEY, safe="")):
            assert secret not in one


def refuse_and_echo(handler):
    """Echo the key in the reason phrase and in a header."""
    handler.send_response(401, f"Bad {HEADER}")
    handler.send_header("content-length", "0")
    handler.send_header("x-echo", HEADER)
    handler.end_headers()


@pytest.mark.parametrize("own_client", [False, True])
def test_no_log_has_a_secret(own_client, caplog):
    caplog.set_level("DEBUG")
    client = {"http_client": httpx.AsyncClient()} if own_client else {}
    with FaultServer(refuse_and_echo).running() as url:
        llm = ChatInternVL(model="vl", base_url=url, api_key=HEADER, max_retries=0, **client)
        with pytest.raises(InternVLError):
            llm.invoke("x")
        llm.close()
    told = [record.getMessage() for record in caplog.records]
    assert any("401" in one and MASK in one for one in told)
    assert not any(HEADER in one for one in told)


def test_masking_of_logs_ends_with_the_backend(caplog):
    redactor = Redactor([HEADER])
    mask_logs(redactor)
    logger = logging.getLogger("httpx")
    logger.warning("one %s", HEADER)
    del redactor
    gc.collect()
    logger.warning("two %s", HEADER)
    assert [record.getMessage() for record in caplog.records] == [f"one {MASK}", f"two {HEADER}"]


@pytest.mark.parametrize("args", [("x",), (HEADER,), ("x", "y"), ()])
def test_a_record_whose_arguments_do_not_fit_is_no_error(args, capsys, caplog):
    """`logging` itself prints such records and goes on."""
    redactor = Redactor([HEADER])
    mask_logs(redactor)
    logging.getLogger("httpx").warning("%d " + HEADER, *args)
    assert HEADER not in caplog.text + capsys.readouterr().err
    assert MASK in caplog.text


class Unprintable:
    def __repr__(self):
        raise OSError("no text")


def test_a_record_without_a_text_passes():
    redactor = Redactor([HEADER])
    mask_logs(redactor)
    logger = logging.getLogger("httpx")
    for message, args in ((Unprintable(), ()), ("%s", (Unprintable(),))):
        record = logger.makeRecord("httpx", 30, "a.py", 1, message, args, None)
        assert logger.filter(record)


def test_tracebacks_in_logs_of_libraries_are_masked(caplog):
    """Some releases of openai log errors, whose text may quote a response's header."""
    redactor = Redactor([HEADER])
    mask_logs(redactor)
    logger = logging.getLogger("openai._base_client")
    for said in (f"illegal header line {HEADER}", "other"):
        try:
            raise OSError(said)  # noqa: TRY301
        except OSError:
            logger.warning("failed", exc_info=True)
    assert HEADER not in caplog.text
    assert f"OSError: illegal header line {MASK}" in caplog.text
    assert "OSError: other" in caplog.text


@pytest.mark.parametrize(
    "address",
    ["http://h/v1?key=hush", "ftp://h/v1?key=hush", "http://me:hush@h/v1", "http://h/v1#hush",
     "http://h :1/v1?key=hush"],
)  # fmt: skip
def test_a_refused_address_is_not_quoted(address, monkeypatch):
    with pytest.raises(ValueError, match="base_url") as caught:
        ChatInternVL(base_url=address)
    assert "hush" not in str(caught.value)
    monkeypatch.setenv("INTERNVL_BASE_URL", address)
    with pytest.raises(ValueError, match="base_url") as caught:
        ChatInternVL()
    assert "hush" not in repr(caught.value)


def test_the_address_of_the_environment(monkeypatch):
    monkeypatch.setenv("INTERNVL_BASE_URL", "http://h:1/v1")
    assert ChatInternVL().base_url == "http://h:1/v1"
    assert ChatInternVL(base_url="http://other/v1").base_url == "http://other/v1"
    assert ChatInternVL(backend="transformers").base_url is None


def test_proxies_and_the_users_own_client(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pr%20oxy-pw@proxy:3128")
    client = httpx.AsyncClient(headers={"Authorization": "Bearer own-token-1"})
    address = ServerAddress("http://h/v1", "key-1234", {"X-A": "header-1"}, client)
    masked = Redactor(secrets_of(address)).mask(
        "http://me:pr%20oxy-pw@proxy refuses Bearer own-token-1, key-1234 and header-1"
    )
    for secret in ("oxy-pw", "own-token-1", "key-1234", "header-1"):
        assert secret not in masked
    assert masked.startswith("http://me:")
