"""Download a URL under a `MediaPolicy`.

`_CheckedNetwork` resolves a host, checks each of its addresses, and connects to a checked address,
which prevents DNS rebinding. Redirects are checked in the same way. One deadline covers the
look-up, all redirects and the body. Proxies and credentials of the environment are not used.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from langchain_internvl._version import __version__
from langchain_internvl.errors import MediaFetchError, MediaTooLargeError
from langchain_internvl.media.deadline import LONGEST_WAIT

if TYPE_CHECKING:
    import ssl

    from langchain_internvl.media.policy import MediaPolicy

_REDIRECTS = {301, 302, 303, 307, 308}


def fetch(url: str, policy: MediaPolicy) -> bytes:
    """Download a URL.

    Args:
        url: An http or https URL.
        policy: Limits on size, time, redirects and addresses.

    Returns:
        The body of the answer.

    Raises:
        MediaFetchError: The URL is not public http(s), or the download failed.
        MediaTooLargeError: The body exceeds `policy.max_bytes`.
    """
    name = url if len(url) <= 200 else url[:197] + "..."
    network = _CheckedNetwork(name, policy)
    try:
        target = httpx.URL(url)
        with httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False), network_backend=network
        ) as pool:
            for _ in range(policy.max_redirects + 1):
                with pool.stream(**_request(target, name, policy)) as response:
                    headers = {key.lower(): value for key, value in response.headers}
                    if response.status not in _REDIRECTS or b"location" not in headers:
                        return _read_body(response, headers, name, policy)
                    target = target.join(headers[b"location"].decode("ascii"))
    except httpcore.TimeoutException as error:
        raise network.timed_out() from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.InvalidURL, ValueError) as error:
        if isinstance(error, MediaFetchError | MediaTooLargeError):
            raise
        reason = str(error) or type(error).__name__
        raise MediaFetchError(name, f"download failed: {reason}") from error
    raise MediaFetchError(name, f"more than {policy.max_redirects} redirects")


def _request(url: httpx.URL, name: str, policy: MediaPolicy) -> dict[str, Any]:
    """Arguments of a GET request."""
    if url.scheme not in {"http", "https"} or not url.raw_host:
        raise MediaFetchError(name, f"only http and https URLs are fetched, not {str(url)[:60]!r}")
    if not policy.allows_host(url.host):
        raise MediaFetchError(name, f"host {url.host!r} is not in MediaPolicy.allowed_hosts")
    if url.userinfo:
        raise MediaFetchError(name, "URLs with a user name or password are not fetched")
    return {
        "method": "GET",
        "url": httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        ),
        "headers": {
            "Host": url.netloc,
            "User-Agent": f"langchain-internvl/{__version__}",
            "Accept": "*/*",
            # No compression: a few bytes could expand to gigabytes.
            "Accept-Encoding": "identity",
            "Connection": "close",
        },
    }


def _read_body(
    response: httpcore.Response, headers: dict[bytes, bytes], name: str, policy: MediaPolicy
) -> bytes:
    if response.status != httpx.codes.OK:
        raise MediaFetchError(name, f"the server answered {response.status}")
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.lower() != "identity":
        raise MediaFetchError(name, f"the server compressed its answer ({encoding}), unasked")
    too_large = MediaTooLargeError(name, f"larger than MediaPolicy.max_bytes={policy.max_bytes}")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > policy.max_bytes:
        raise too_large
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > policy.max_bytes:
            raise too_large
    return bytes(body)


class _CheckedNetwork(httpcore.SyncBackend):
    """Network backend of httpcore that connects to allowed addresses only, until a deadline."""

    def __init__(self, name: str, policy: MediaPolicy) -> None:
        self._name = name
        self._policy = policy
        self._deadline = time.monotonic() + policy.timeout

    def remaining(self) -> float:
        """Seconds until the deadline, more than 0 and at most a year."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise self.timed_out()
        return min(seconds, LONGEST_WAIT)

    def timed_out(self) -> MediaFetchError:
        """The error of a download that exceeded its timeout."""
        return MediaFetchError(
            self._name, f"not downloaded within MediaPolicy.timeout={self._policy.timeout} s"
        )

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is ours
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first reachable address of a host, if all its addresses are allowed."""
        addresses = self._checked_addresses(host, port)
        failure: Exception = httpcore.ConnectError(f"host {host!r} has no address")
        while addresses:
            # The timeout is divided, so that an unreachable address leaves time for the others.
            seconds = self.remaining() / len(addresses)
            try:
                stream = super().connect_tcp(
                    addresses.pop(0), port, seconds, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self)
        raise failure

    def _checked_addresses(self, host: str, port: int) -> list[str]:
        addresses = self._look_up(host, port)
        for address in addresses:
            if not self._policy.allows_address(address, port):
                raise MediaFetchError(
                    self._name,
                    f"host {host!r} is {address}, not a public address "
                    "(MediaPolicy(allow_private_hosts=True) allows it)",
                )
        return addresses

    def _look_up(self, host: str, port: int) -> list[str]:
        """Resolve a host in a thread, since the system's resolver has no timeout."""
        answer: SimpleQueue[list[str] | Exception] = SimpleQueue()

        def ask() -> None:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                answer.put(list(dict.fromkeys(str(one[4][0]).split("%", 1)[0] for one in found)))
            except Exception as error:  # noqa: BLE001 - an invalid name or port
                answer.put(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            found = answer.get(timeout=self.remaining())
        except Empty:
            raise self.timed_out() from None
        if isinstance(found, Exception):
            raise MediaFetchError(self._name, f"host {host!r} cannot be resolved: {found}")
        return found


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose operations end at the deadline of its network."""

    def __init__(self, stream: httpcore.NetworkStream, network: _CheckedNetwork) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._network.remaining())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._network.remaining())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        secure = self._stream.start_tls(ssl_context, server_hostname, self._network.remaining())
        return _DeadlineStream(secure, self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
