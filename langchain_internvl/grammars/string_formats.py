"""String formats of JSON schemas as regular expressions.

The patterns are exact where xgrammar's formats are not (its dates include 31 February). Some are
narrower than the format, where they exclude only values that a model has no reason to write.
Sources: RFC 3339 (dates and times), RFC 5321 and 1123 (addresses), ISO 8601 (durations).
"""

from __future__ import annotations

from collections.abc import Mapping

_YEAR = "[1-9][0-9]{3}"
_LEAP = "([1-9][0-9](0[48]|[2468][048]|[13579][26])|(2[048]|[3579][26]|[468][048]|1[26])00)"
_DATE = (
    f"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    f"|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_ZONE = "(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_LABEL = "[a-z0-9]{1,20}(-[a-z0-9]{1,20}){0,2}"
_HOST = rf"({_LABEL}\.){{0,5}}[a-z]{{2,20}}"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_SECONDS = r"[0-9]{1,4}(\.[0-9]{1,6})?S"
_MINUTES = f"[0-9]{{1,4}}M({_SECONDS})?"

FORMATS: Mapping[str, str] = {
    "date": f"^{_DATE}$",
    "date-time": f"^{_DATE}T{_TIME}{_ZONE}$",
    "duration": (
        f"^P([0-9]{{1,4}}D(T([0-9]{{1,4}}H({_MINUTES}|{_SECONDS})?|{_MINUTES}|{_SECONDS}))?"
        f"|T([0-9]{{1,4}}H({_MINUTES}|{_SECONDS})?|{_MINUTES}|{_SECONDS}))$"
    ),
    "email": rf"^[a-z0-9]{{1,20}}([._+-][a-z0-9]{{1,20}}){{0,2}}@{_LABEL}\.{_HOST}$",
    "hostname": f"^{_HOST}$",
    "ipv4": rf"^({_BYTE}\.){{3}}{_BYTE}$",
    "ipv6": "^([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$",
    "time": f"^{_TIME}{_ZONE}?$",
    "uri": rf"^https?://{_HOST}(:[1-9][0-9]{{1,3}})?(/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*"
    r"(\?[A-Za-z0-9._~!$&'()*+,;=:@/-]*)?$",
    "uuid": "^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
}
"""Pattern of each format."""

ANY_STRING = frozenset({"binary", "password", "path"})
"""Formats that every string satisfies; pydantic writes them for bytes, SecretStr and Path."""

EQUAL_PATTERNS: Mapping[str, str] = {
    # pydantic's pattern of Decimal
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$": r"^[+-]?[0-9]{1,18}(\.[0-9]{1,18})?$",
}
"""Common patterns that grammars cannot express, and equivalent ones that they can."""
