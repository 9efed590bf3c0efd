"""String formats of JSON schemas as regular expressions.

The patterns are exact where xgrammar's formats are not (its dates include 31 February). Some are
narrower than the format, where they exclude only values that a model has no reason to write.
Sources: RFC 3339 (dates and times), RFC 5321, 1123, 3986 and 4291 (addresses), ISO 8601
(durations), OpenAPI's registry of formats (`date-time-local`), pydantic (`uuid4`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_YEAR = "[1-9][0-9]{3}"
_LEAP = "([1-9][0-9](0[48]|[2468][048]|[13579][26])|(2[048]|[3579][26]|[468][048]|1[26])00)"
_DATE = (
    f"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    f"|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_ZONE = "(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_LABEL = "[A-Za-z0-9]{1,20}(-[A-Za-z0-9]{1,20}){0,2}"
_HOST = rf"({_LABEL}\.){{0,5}}[A-Za-z]{{2,20}}"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"({_BYTE}\.){{3}}{_BYTE}"
_GROUP = "[0-9A-Fa-f]{1,4}"
# Eight groups, or fewer with "::" in place of the others.
_IPV6 = "|".join(
    [
        f"({_GROUP}:){{7}}({_GROUP}|:)",
        *(f"({_GROUP}:){{{before}}}(:{_GROUP}){{1,{7 - before}}}" for before in range(1, 7)),
        *(f"({_GROUP}:){{{before}}}:" for before in range(1, 7)),
        f":((:{_GROUP}){{1,7}}|:)",
    ]
)
_ADDRESSEE = "[A-Za-z0-9]{1,20}([._+-][A-Za-z0-9]{1,20}){0,2}"
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_ESCAPED = "%[0-9A-Fa-f]{2}"
_IN_PATH = "[A-Za-z0-9._~!$&'()*+,;=:@-]"
_TAIL = (
    rf"(/({_IN_PATH}|{_ESCAPED})*)*"
    rf"(\?({_IN_PATH}|[/?]|{_ESCAPED})*)?(#({_IN_PATH}|[/?]|{_ESCAPED})*)?"
)
_SECONDS = r"[0-9]{1,4}(\.[0-9]{1,6})?S"
_MINUTES = f"[0-9]{{1,4}}M({_SECONDS})?"


def _uuid(version: str) -> str:
    digit = "[0-9A-Fa-f]"
    return f"^{digit}{{8}}-{digit}{{4}}-{version}{digit}{{3}}-[89ABab]{digit}{{3}}-{digit}{{12}}$"


FORMATS: Mapping[str, str] = {
    "date": f"^{_DATE}$",
    "date-time": f"^{_DATE}T{_TIME}{_ZONE}$",
    "date-time-local": f"^{_DATE}T{_TIME}$",
    "duration": (
        f"^P([0-9]{{1,4}}D(T([0-9]{{1,4}}H({_MINUTES}|{_SECONDS})?|{_MINUTES}|{_SECONDS}))?"
        f"|T([0-9]{{1,4}}H({_MINUTES}|{_SECONDS})?|{_MINUTES}|{_SECONDS}))$"
    ),
    "email": rf"^{_ADDRESSEE}@{_LABEL}\.{_HOST}$",
    "hostname": f"^{_HOST}$",
    "ipv4": f"^{_IPV4}$",
    "ipv6": f"^({_IPV6})$",
    "time": f"^{_TIME}{_ZONE}?$",
    "uri": rf"^https?://({_HOST}|{_IPV4})(:{_PORT})?{_TAIL}$",
    "uuid": _uuid("[1-8]"),
    **{f"uuid{version}": _uuid(version) for version in "1345678"},
}
"""Pattern of each format."""

ANY_STRING = frozenset({"binary", "password", "path"})
"""Formats that every string satisfies; pydantic writes them for bytes, SecretStr and Path."""

INTEGER = "^(0|-?[1-9][0-9]{0,17})$"
"""Text that spells an integer."""

DECIMAL = r"^[+-]?[0-9]{1,18}(\.[0-9]{1,18})?$"
"""Text that spells a decimal number."""

EQUAL_PATTERNS: Mapping[str, str] = {
    # pydantic's pattern of Decimal, before 2.14
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$": DECIMAL,
}
"""Common patterns that grammars cannot express, and equivalent ones that they can."""


_SCHEMES = re.compile(r"\^\(((?:[a-z0-9|-]|\\[+.])+)\)://")
_LOCAL = "file"


def scheme_pattern(schemes: Iterable[str]) -> str:
    """The beginning of URLs with one of some schemes, such as `^(ws|wss)://`."""
    names = (one.replace("+", r"\+").replace(".", r"\.") for one in sorted(schemes))
    return f"^({'|'.join(names)})://"


def uri_pattern(beginning: str) -> str | None:
    """The pattern of URLs whose schemes another pattern names; None: it says something else.

    Args:
        beginning: A pattern beside the format `uri`, as `scheme_pattern` writes it.
    """
    named = _SCHEMES.fullmatch(beginning)
    if named is None:
        return None
    authority = rf"({_ADDRESSEE}(:{_ADDRESSEE})?@)?({_HOST}|{_IPV4})(:{_PORT})?"
    if named[1] == _LOCAL:  # needs no host
        authority = f"({_HOST})?"
    return f"{beginning}{authority}{_TAIL}$"
