"""Addresses of servers."""

from __future__ import annotations

from urllib.parse import urlsplit

from langchain_internvl.errors import RequestError


def check_address(url: str) -> str:
    """An address that requests can be sent to, without white space around it.

    Errors do not quote the address: it may hold a password or a key.

    Raises:
        RequestError: It is none, or holds a password, a query or a fragment, which logs would show.
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
    except ValueError:  # a port that is no number, brackets that do not close
        is_whole = False
    if not is_whole or not url.isprintable() or " " in url:
        raise RequestError(
            "base_url: an address is like http://host:23333/v1, with http or https, and a port "
            "from 1 to 65535 if it has one; what was given (not shown here) is none"
        )
    return url
