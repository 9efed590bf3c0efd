"""Masks known secrets in text that goes into errors."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

if TYPE_CHECKING:
    from langchain_internvl.backends.server.client import ServerAddress

MASK = "**********"

_MOST_QUOTED = 1000
"""Maximum length of an error text, in characters. Servers may echo whole requests."""
MOST_READ = 1 << 16
"""Maximum number of characters of an error that are searched for secrets."""

_PART = 12
"""Minimum length of a part of a secret that is masked, in characters; servers may cut secrets."""

_SECRET_HEADERS = ("authorization", "proxy-authorization", "x-api-key", "api-key", "cookie")
"""Headers of the user's own `http_client` whose values are secret."""


class Redactor:
    """Masks secrets in text, in any of the encodings in which servers echo them.

    The encodings are: verbatim, URL-encoded (also twice), escaped for JSON, Python, HTML or a
    shell, in another case, and base64. Verbatim parts of 12 characters or more are masked too.

    Args:
        secrets: The secrets. Those of fewer than four characters are masked as whole words only.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        secrets = list(secrets)
        patterns = [one for secret in secrets if secret for one in _patterns(secret)]
        self._pattern = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None
        self._parts = {part for secret in secrets for part in _windows(secret.lower())}

    def mask(self, text: str) -> str:
        """The text without the secrets."""
        return text if self._pattern is None else self._mask_parts(self._pattern.sub(MASK, text))

    def _mask_parts(self, text: str) -> str:
        lower = text.lower() if len(text.lower()) == len(text) else text
        kept: list[str] = []
        end = 0
        for start, part in enumerate(_windows(lower)):
            if part in self._parts:
                # Overlapping parts get a single mask.
                kept += [text[end:start], MASK] if start > end or not kept else []
                end = start + _PART
        return "".join([*kept, text[end:]])

    def quote(self, text: str) -> str:
        """The masked text, shortened after masking so that no part of a secret is left."""
        masked = self.mask(text[:MOST_READ])
        return masked if len(masked) <= _MOST_QUOTED else masked[:_MOST_QUOTED] + "..."

    def clean(self, error: BaseException) -> None:
        """Mask an error in place, and drop its cause and context, which may quote the response."""
        error.args = tuple(self.quote(one) if isinstance(one, str) else one for one in error.args)
        error.__cause__ = error.__context__ = None


def secrets_of(address: ServerAddress) -> list[str]:
    """All secrets in requests to a server: API key, header values and proxy passwords."""
    client = {
        name.lower(): value for name, value in getattr(address.http_client, "headers", {}).items()
    }
    proxies = (urlsplit(url).password for url in getproxies().values())
    return [
        address.api_key or "",
        *address.headers.values(),
        *(client[name] for name in _SECRET_HEADERS if name in client),
        *(unquote(one) for one in proxies if one),
    ]


def _windows(text: str) -> Iterator[str]:
    """All substrings of `_PART` characters."""
    return (text[start : start + _PART] for start in range(len(text) - _PART + 1))


def _patterns(secret: str) -> list[str]:
    spelled = "".join(map(_any_spelling, secret))
    if len(secret) < 4:
        return [rf"(?<!\w){spelled}(?!\w)"]
    return [spelled, *filter(None, map(re.escape, _base64_cores(secret)))]


def _any_spelling(char: str) -> str:
    code = ord(char)
    literal = re.escape(char)
    return (
        rf"(?:\\*{literal}|%(?:25)*{code:02x}|\\+u00{code:02x}|\\+x{code:02x}"
        rf"|&(?:amp;)?#0*{code};|&(?:amp;)?#x0*{code:x};{_named(char)})"
    )


def _named(char: str) -> str:
    names = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos", " ": "nbsp"}
    plus = r"|\+" if char == " " else ""
    return (f"|&{names[char]};" if char in names else "") + plus


def _base64_cores(secret: str) -> list[str]:
    """Substrings of the base64 of any text that contains the secret: one for each alignment."""
    cores = []
    for before in range(3):
        data = b"\0" * before + secret.encode()
        whole = len(data) // 3 * 4
        start = -(-before * 4 // 3)
        core = base64.b64encode(data).decode()[start:whole]
        if len(core) >= 4:
            cores += [core, core.replace("+", "-").replace("/", "_")]
    return cores
