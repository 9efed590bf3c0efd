r"""Boxes out of what a model wrote.

What is read, for one box or several (n is an integer or a decimal):

| form | seen from |
|---|---|
| `<ref>cat</ref><box>[[n, n, n, n], ...]</box>` | InternVL |
| `cat[[n, n, n, n]]`, `cat: [n, n, n, n]` | InternVL whose special tokens were stripped |
| `{"bbox_2d": [n, n, n, n], "label": "cat"}`, in lists and fences too | Qwen2.5-VL, InternVL3.5 |
| `(n,n),(n,n)`, `[[n, n], [n, n]]`, with or without `<box>` | Qwen-VL and others |

Text is matched, never evaluated. What looks like a box and is none is reported, not dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from langchain_internvl.grounding.box import Box, Size, Space, scale_of

_N = r"\s{0,9}([-+]?\d{1,9}(?:\.\d{0,17})?|[-+]?\.\d{1,17})\s{0,9}"
_FOUR = rf"[\[(]{_N},{_N},{_N},{_N}[\])]"
_CORNERS = rf"[\[(]{_N},{_N}[\])]\s{{0,9}},?\s{{0,9}}[\[(]{_N},{_N}[\])]"
_BARE = rf"<box>{_N},{_N},{_N},{_N}</box>"
_POINT = re.sub(r"\((?!\?)", "(?:", rf"[\[(]{_N},{_N}[\])]")
_POLYGON = rf"{_POINT}(?:\s{{0,9}},?\s{{0,9}}{_POINT}){{2,400}}"
_BOX = re.compile(f"{_POLYGON}|{_FOUR}|{_CORNERS}|{_BARE}")
# What looks like a box: a bracket with numbers, closed or at the end of the text.
_ALMOST = re.compile(r"[\[(]{1,3}\s{0,9}[-+]?\.?\d[-+.\d,\s]{0,400}(?:[\])]|$)")
_TEMPLATE = re.compile(
    r"[\[(]{1,3}\s{0,9}(?:x_?(?:1|min)|left)\s{0,9},\s{0,9}(?:y_?(?:1|min)|top)\b[^\[\]]{0,60}[\])]{0,3}",
    re.IGNORECASE,
)
_REF = re.compile(r"<ref>(.{0,2000}?)</ref>", re.DOTALL)
_JSON_LABEL = re.compile(
    r"""["'](?:label|name|text|ref)["']\s{0,9}:\s{0,9}("(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
)
_JSON_KEY = re.compile(r"""["'](?:bbox_2d|bbox|box)["']\s{0,9}:\s{0,9}\[{0,3}$""")
_MARKUP = re.compile(r"</?(?:ref|box|quad)>|```(?:json)?")
_LONGEST = 200_000
_SHARES = 1.5
"""Decimals under it are shares of 1, that may reach a little out of the picture."""


class Grounding(BaseModel):
    """What a model's answer says about places.

    Attributes:
        boxes: The boxes, in the order of the answer.
        rejected: What looked like a box or was asked for and is none, each with the reason.
    """

    model_config = ConfigDict(frozen=True)

    boxes: tuple[Box, ...] = ()
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    """Four numbers in an answer.

    Attributes:
        start: Where they begin in the text.
        end: Where they end.
        numbers: The numbers as they are written.
    """

    start: int
    end: int
    numbers: tuple[str, ...]


def parse_boxes(text: str, size: Size | None = None, space: Space = "norm1000") -> list[Box]:
    """The boxes in a model's answer.

    Args:
        text: The answer, with its `<ref>` and `<box>` if it has any.
        size: Width and height of the picture in pixels; needed for space="pixel" and for
            `Box.pixels`.
        space: What the numbers count: "norm1000" (thousandths, as InternVL writes them; decimals
            that are all about 1 or less are taken as shares there), "unit" or "pixel".

    Returns:
        The boxes, in their order; empty if there are none. `parse_grounding` also tells what was
        rejected.

    Raises:
        ValueError: The space is unknown, or "pixel" without a size.
    """
    return list(parse_grounding(text, size, space).boxes)


def parse_grounding(
    text: str,
    size: Size | None = None,
    space: Space = "norm1000",
    confidence: Callable[[int, int], float | None] | None = None,
) -> Grounding:
    """The boxes in a model's answer, and what in it was no box.

    Args:
        text: As for `parse_boxes`.
        size: As for `parse_boxes`.
        space: As for `parse_boxes`.
        confidence: How sure the model was of what it wrote between two places of the text.
    """
    scale_of(space, size)
    boxes: list[Box] = []
    rejected: list[str] = []
    if len(text) > _LONGEST:
        rejected.append(f"what follows after {_LONGEST} characters was not read")
        text = text[:_LONGEST]
    label: str | None = None
    end = 0
    for found in _find(text):
        between = text[end : found.start]
        rejected += _almost(between, is_end=False)
        label = _label(text, found, between, label, is_first=end == 0)
        end = found.end
        try:
            box = _mended(found.numbers, size, space, label)
        except ValueError as error:
            rejected.append(f"{text[found.start : found.end]}: {error}")
            continue
        if confidence is not None:
            box = box.model_copy(update={"confidence": confidence(found.start, found.end)})
        boxes.append(box)
    rejected += _almost(text[end:], is_end=True)
    named = {box.label for box in boxes}
    rejected += [
        f"{name}: no box"
        for name in dict.fromkeys(match.strip() for match in _REF.findall(text))
        if name not in named and not any(reason.startswith(name) for reason in rejected)
    ]
    return Grounding(boxes=tuple(boxes), rejected=tuple(rejected))


def _find(text: str) -> Iterator[_Found]:
    """Where four numbers stand that may be a box, from left to right."""
    for match in _BOX.finditer(text):
        numbers = tuple(group for group in match.groups() if group is not None)
        yield _Found(match.start(), match.end(), numbers)


def _label(
    text: str, found: _Found, between: str, before: str | None, *, is_first: bool
) -> str | None:
    """What a box is of: named before it, or in its JSON object."""
    if refs := _REF.findall(between):
        return str(refs[-1]).strip()
    if _JSON_KEY.search(between):
        return _json_label(text, found)
    words = _MARKUP.sub("\n", between)
    last = words.rstrip("[( \t\r\n:=-").rpartition("\n")[2]
    last = re.split(r"[\]);,.]\s|[\])]", last)[-1].strip(" \t,;.:[]()")
    if any(letter.isalnum() for letter in last):
        return last
    return None if is_first else before


def _json_label(text: str, found: _Found) -> str | None:
    """The label in the object around a box."""
    start, end = text.rfind("{", 0, found.start), text.find("}", found.end)
    match = _JSON_LABEL.search(text[max(start, 0) : end if end >= 0 else len(text)])
    if match is None:
        return None
    literal = match.group(1)
    if literal.startswith("'"):
        return literal[1:-1]
    try:
        return str(json.loads(literal))
    except json.JSONDecodeError:
        return literal[1:-1]


def _almost(text: str, *, is_end: bool) -> list[str]:
    """What looks like a box in text that has none."""
    reasons = [
        f"{match.group().strip()}: the template, not a box" for match in _TEMPLATE.finditer(text)
    ]
    for match in _ALMOST.finditer(text):
        piece = match.group().strip()
        many = len(re.findall(r"\d+(?:\.\d+)?", piece))
        if not piece.endswith(("]", ")")):
            if is_end and match.group().startswith("["):
                reasons.append(f"{piece}: cut off")
        elif many > 1:
            reasons.append(f"{piece}: {many} numbers, not four")
    return reasons


def _mended(numbers: tuple[str, ...], size: Size | None, space: Space, label: str | None) -> Box:
    """A box of the numbers, with its corners in order and inside the picture.

    Raises:
        ValueError: They are no box.
    """
    if not numbers:
        raise ValueError("a polygon, not a box")
    values = [float(number) for number in numbers]
    repairs: list[str] = []
    # As thousandths they would be less than two pixels of a thousand.
    are_shares = any("." in number for number in numbers) and max(map(abs, values)) < _SHARES
    if space == "norm1000" and are_shares:
        space = "unit"
        repairs.append("read as shares of 1, not as thousandths")
    whole = scale_of(space, size) * 2
    x1, y1, x2, y2 = (value * 1000 / limit for value, limit in zip(values, whole, strict=True))
    if x1 > x2 or y1 > y2:
        x1, x2 = sorted((x1, x2))
        y1, y2 = sorted((y1, y2))
        repairs.append("corners were swapped")
    if x1 >= 1000 or y1 >= 1000 or x2 <= 0 or y2 <= 0:
        hint = "; are these pixels? (space='pixel')" if space == "norm1000" else ""
        raise ValueError(f"outside the picture{hint}")
    if x1 == x2 or y1 == y2:
        raise ValueError("without an area")
    inside = [min(1000.0, max(0.0, value)) for value in (x1, y1, x2, y2)]
    if inside != [x1, y1, x2, y2]:
        repairs.append("reached out of the picture and was cut off at its edge")
    x1, y1, x2, y2 = inside
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, label=label, size=size, repairs=tuple(repairs))
