"""Validation of server addresses."""

from __future__ import annotations

from urllib.parse import urlsplit

from langchain_internvl.errors import RequestError


def check_address(url: str) -> str:
    """Validate a server's base URL, and return it without surrounding white space.

    Errors do not quote the address: it may hold a password or a key.

    Raises:
        RequestError: The address is not an http(s) URL, or has a user name, a query or a fragment,
            which would appear in logs.
    """
    url = url.strip()
    if "@" in url or "?" in url or "#" in url:
        raise RequestError(
            "base_url: a key belongs into api_key= or default_headers=, not into the address; "
            "leave out user names, queries (?) and fragments (#)"
        )
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # an invalid port, or unclosed brackets
        is_whole = False
    if not is_whole or not url.isprintable() or " " in url:
        raise RequestError(
            "base_url: an address is like http://host:23333/v1, with http or https, and a port "
            "from 1 to 65535 if it has one; what was given (not shown here) is none"
        )
    return url
