"""Replies that are JSON values."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCED = re.compile(r"\s*```(?:json)?\s(.*)```\s*", re.DOTALL | re.IGNORECASE)
"""A reply in a Markdown fence, which servers without constrained decoding return."""


def read_json(reply: str) -> Any:
    """The value of a reply that is JSON, alone or in a Markdown fence.

    Args:
        reply: The text of the reply.

    Raises:
        ValueError: It is no JSON, or nested too deeply.
    """
    fenced = _FENCED.fullmatch(reply)
    try:
        return json.loads(fenced[1] if fenced else reply)
    except RecursionError as error:
        raise ValueError(str(error)) from error
