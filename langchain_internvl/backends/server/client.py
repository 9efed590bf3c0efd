"""OpenAI's client: its errors mapped to those of this package, its streams as events."""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from langchain_internvl._optional import require
from langchain_internvl.backends.server.error_mapping import named, read_body, to_error
from langchain_internvl.backends.server.event_stream import ServerEvent, read_events
from langchain_internvl.backends.server.kinds import owner_of
from langchain_internvl.errors import (
    BrokenReplyError,
    InternVLError,
    ServerError,
    ServerUnavailableError,
)

_CONNECT_SECONDS = 10.0
_LIST_SECONDS = 30.0

MOST_BODY_BYTES = 4 << 20
"""Maximum length of a body that is read at once: an error, or a list of models."""


@dataclass(frozen=True)
class ServerAddress:
    """Address and credentials of a server.

    Attributes:
        base_url: Base URL, up to `/v1`.
        api_key: API key; None: no key.
        headers: Headers of every request.
        http_client: `httpx.AsyncClient` that sends the requests; None: one of this package's.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    http_client: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class ServedModel:
    """A model of a server.

    Attributes:
        name: Name of the model on the server.
        owner: `owned_by` of the model, such as "lmdeploy"; "": not given. See `kinds.owner_of`.
    """

    name: str
    owner: str


class Client:
    """Talks to one server, in one event loop.

    Args:
        address: The server.

    Raises:
        ImportError: The extra `server` is not installed.
    """

    def __init__(self, address: ServerAddress) -> None:
        self._openai = require("openai", extra="server")
        own = address.http_client
        classes = (self._openai.DefaultAsyncHttpxClient, *(() if own is None else (type(own),)))
        self._transport_errors, self._library_errors = _library_errors(classes)
        # No read timeout, as generation may take any time; connecting has one. The client's own
        # retries are off: they do not cover errors inside a stream.
        self._client = self._openai.AsyncOpenAI(
            base_url=address.base_url,
            api_key=address.api_key or "none",
            default_headers=dict(address.headers) or None,
            http_client=_own_client(self._openai) if own is None else _BoundedClient(own),
            max_retries=0,
            timeout=self._openai.Timeout(None, connect=_CONNECT_SECONDS),
        )
        self._is_shared = own is not None
        # The client reads them from environment variables that are meant for OpenAI.
        self._client.organization = self._client.project = None

    async def models(self) -> list[ServedModel]:
        """The models of the server.

        Raises:
            ServerError: The list is malformed.
        """
        async with self._translating(None):
            try:
                # The client returns whatever is no JSON (a web page) as text, and then fails on it.
                page = await self._client.models.list(timeout=_LIST_SECONDS)
                return [ServedModel(str(one.id), owner_of(one)) for one in page.data or ()]
            except (AttributeError, TypeError) as error:
                raise ServerError(f"the server's list of models is malformed: {error}") from error

    @asynccontextmanager
    async def events(
        self, body: Mapping[str, Any], request_id: str
    ) -> AsyncGenerator[AsyncIterator[ServerEvent], None]:
        """The events of a streamed reply; leaving the context closes the connection.

        Args:
            body: The request, as JSON.
            request_id: Value of the header `X-Request-Id`, for logs.

        Raises:
            InternVLError: The server is unreachable, or returns an error.
        """
        known = {name: body[name] for name in ("model", "messages")}
        others = {name: value for name, value in body.items() if name not in known}
        asked = self._client.chat.completions.with_streaming_response.create(
            **known, stream=True, extra_body=others, extra_headers={"X-Request-Id": request_id}
        )
        async with (
            self._translating(request_id),
            asked as response,
            aclosing(read_events(response.iter_bytes())) as events,
        ):
            if response.headers.get("content-type", "").lower().startswith("text/html"):
                raise BrokenReplyError(
                    "the server answers with a web page; base_url should be the address of its "
                    f"API, which usually ends in /v1{named(request_id)}",
                    request_id=request_id,
                )
            yield events

    async def close(self) -> None:
        """Close all connections, except those of the user's own `http_client`."""
        if not self._is_shared:
            await self._client.close()

    @asynccontextmanager
    async def _translating(self, request_id: str | None) -> AsyncGenerator[None, None]:
        openai = self._openai
        try:
            yield
        except InternVLError:
            raise
        except openai.APIStatusError as error:
            body = error.body if error.body is not None else error.response.content
            raise to_error(
                read_body(error.status_code, body),
                request_id,
                _seconds(error.response.headers.get("retry-after")),
            ) from error
        except (openai.APIConnectionError, *self._transport_errors) as error:
            reason = error.__cause__ or error
            if isinstance(reason, InternVLError):  # of `_bound_body`
                raise reason from None
            raise ServerUnavailableError(
                f"the server cannot be reached, or broke off: {type(reason).__name__}: {reason}"
                f"{named(request_id)}",
                request_id=request_id,
            ) from error
        except (RecursionError, ValueError) as error:  # JSON that the client cannot parse
            raise BrokenReplyError(
                f"the server's answer is malformed: {type(error).__name__}{named(request_id)}",
                request_id=request_id,
            ) from error
        except self._library_errors as error:  # for example a wrong Content-Encoding
            raise BrokenReplyError(
                f"the server's answer cannot be read: {type(error).__name__}: {error}"
                f"{named(request_id)}",
                request_id=request_id,
            ) from error
        except openai.OpenAIError as error:
            raise ServerError(
                f"the server's answer cannot be read: {error}", request_id=request_id
            ) from error


class _BoundedClient:
    """The user's own HTTP client with a limit on response bodies; that client is not changed.

    Args:
        client: A `httpx.AsyncClient`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The class of the user's client, which OpenAI's client checks by `isinstance`."""
        return type(self._client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request, as `httpx.AsyncClient.send` does."""
        response = await self._client.send(request, stream=True, **options)
        try:
            await _bound_body(response)
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response


def _own_client(openai: Any) -> Any:
    """An HTTP client with a limit on response bodies.

    It follows no redirects: they would send the conversation and `default_headers` to another host.
    """
    hooks = {"response": [_bound_body]}
    return openai.DefaultAsyncHttpxClient(event_hooks=hooks, follow_redirects=False)


async def _bound_body(response: Any) -> None:
    """Read a body that OpenAI's client would read at once, up to `MOST_BODY_BYTES`.

    The body of an error is cut there: its status and its beginning are enough.

    Args:
        response: The httpx response, whose body has not been read yet.

    Raises:
        BrokenReplyError: The body of a successful response is longer.
    """
    if response.status_code < 300 and response.request.method != "GET":
        return  # a streamed reply; see `event_stream`
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MOST_BODY_BYTES:
            await response.aclose()
            break
    if len(body) > MOST_BODY_BYTES and response.status_code < 400:
        raise BrokenReplyError(f"the server's answer is over {MOST_BODY_BYTES >> 20} MiB")
    response._content = bytes(body[:MOST_BODY_BYTES])  # noqa: SLF001 - what `aread` would set


def _library_errors(
    classes: Iterable[type[Any]],
) -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """Errors that OpenAI's client passes through in the middle of a stream.

    They come from its HTTP library, httpx or its successor httpx2, and from that of the user's own
    client.

    Args:
        classes: The classes of the HTTP clients.

    Returns:
        The transport errors of a broken connection, and all other errors of the libraries.
    """
    bases = {
        base.__module__.partition(".")[0]
        for one in classes
        for base in one.__mro__
        if base.__name__ == "AsyncClient"
    }
    libraries = [importlib.import_module(name) for name in sorted(bases)]
    return (
        tuple(one.TransportError for one in libraries) or (OSError,),
        tuple(error for one in libraries for error in (one.HTTPError, one.StreamError)),
    )


def _seconds(header: str | None) -> float | None:
    """Seconds of a `Retry-After` header; None for dates, which no model server sends."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
