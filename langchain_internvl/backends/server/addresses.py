"""Addresses of servers."""

from __future__ import annotations

from urllib.parse import urlsplit

from langchain_internvl.errors import RequestError


def check_address(url: str) -> str:
    """An address that requests can be sent to, without white space around it.

    What is wrong is told without the address where that may hold a password.

    Raises:
        RequestError: It is none, or has a name and a password in it, which logs would show.
    """
    url = url.strip()
    if "@" in url:
        raise RequestError("base_url: a key belongs into api_key=, not into the address")
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as error:  # a port that is no number, brackets that do not close
        raise RequestError(f"base_url: {url!r} is no address: {error}") from error
    if not is_whole or not url.isprintable() or " " in url:
        raise RequestError(f"base_url: an address is like http://host:23333/v1, not {url!r}")
    return url
