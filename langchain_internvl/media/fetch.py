"""Download a URL under a `MediaPolicy`.

The host is resolved here, every address it has is checked, and the connection is made to the
checked address itself: a name that resolves differently a moment later changes nothing. Each
redirect goes through the same door. Proxies of the environment are not used.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import httpx

from langchain_internvl._version import __version__
from langchain_internvl.errors import MediaFetchError, MediaTooLargeError

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy

_HEADERS = {
    "User-Agent": f"langchain-internvl/{__version__}",
    # Compressed transfer would let a few bytes grow to gigabytes.
    "Accept-Encoding": "identity",
}


def fetch(url: str, policy: MediaPolicy) -> bytes:
    """Download a URL.

    Args:
        url: An http or https URL.
        policy: Limits on size, time, redirects and addresses.

    Returns:
        The body of the answer.

    Raises:
        MediaFetchError: The URL is not public http(s), or the download failed.
        MediaTooLargeError: The body is over `policy.max_bytes`.
    """
    deadline = time.monotonic() + policy.timeout
    try:
        current = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise MediaFetchError(url, f"is not a valid URL: {error}") from error
    with httpx.Client(trust_env=False, headers=_HEADERS) as client:
        for _ in range(policy.max_redirects + 1):
            request = _pinned_request(client, current, url, policy, deadline)
            try:
                response = client.send(request, stream=True)
                try:
                    if not response.has_redirect_location:
                        return _read_body(response, url, policy, deadline)
                    current = current.join(response.headers["Location"])
                finally:
                    response.close()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise MediaFetchError(
                    url, f"download failed: {str(error) or type(error).__name__}"
                ) from error
    raise MediaFetchError(url, f"more than {policy.max_redirects} redirects")


def _pinned_request(
    client: httpx.Client, url: httpx.URL, name: str, policy: MediaPolicy, deadline: float
) -> httpx.Request:
    """A request that connects to the checked address, with the host name kept for TLS and HTTP."""
    if url.scheme not in {"http", "https"} or not url.host:
        raise MediaFetchError(name, f"only http and https URLs are fetched, not {str(url)[:60]!r}")
    address = _checked_address(url, name, policy)
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise _timed_out(name, policy)
    return client.build_request(
        "GET",
        url.copy_with(host=address, userinfo=b""),
        headers={"Host": url.netloc.decode("ascii")},
        timeout=remaining,
        extensions={"sni_hostname": url.host},
    )


def _checked_address(url: httpx.URL, name: str, policy: MediaPolicy) -> str:
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MediaFetchError(name, f"host {url.host!r} cannot be resolved: {error}") from error
    addresses = [str(info[4][0]).split("%", 1)[0] for info in found]
    for address in addresses:
        if not policy.allows_address(address):
            raise MediaFetchError(
                name,
                f"host {url.host!r} is {address}, not a public address "
                "(MediaPolicy(allow_private_hosts=True) allows it)",
            )
    return addresses[0]


def _read_body(response: httpx.Response, name: str, policy: MediaPolicy, deadline: float) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise MediaFetchError(name, f"the server answered {response.status_code}")
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > policy.max_bytes:
            raise MediaTooLargeError(name, f"larger than MediaPolicy.max_bytes={policy.max_bytes}")
        if time.monotonic() > deadline:
            raise _timed_out(name, policy)
    return bytes(body)


def _timed_out(name: str, policy: MediaPolicy) -> MediaFetchError:
    return MediaFetchError(name, f"not downloaded within MediaPolicy.timeout={policy.timeout} s")
