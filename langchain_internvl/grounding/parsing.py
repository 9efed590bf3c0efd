"""Parses the boxes in a model's reply.

Supported formats, for one box or several (n is a number, separated by commas, semicolons or
spaces):

- InternVL: `<ref>cat</ref><box>[[n, n, n, n], ...]</box>`, `<box>n n n n</box>`
- InternVL, without its special tokens: `cat[[n, n, n, n]]`, `cat: [n, n, n, n]`, and a reply of
  four numbers alone, in code too
- Qwen2-VL: `<|object_ref_start|>cat<|object_ref_end|><|box_start|>(n,n),(n,n)<|box_end|>`
- Qwen2.5-VL and InternVL3.5: `{"bbox_2d": [n, n, n, n], "label": "cat"}`, `{"cat": [n, n, n, n]}`,
  in lists and fences too
- Qwen-VL and others: `(n,n),(n,n)`, `[[n, n], [n, n]]`, `(n, n) to (n, n)`, with or without `<box>`
- Qianfan-OCR: `title <box><COORD_n><COORD_n><COORD_n><COORD_n></box>`, with or without `<box>`
- Gemini: `{"box_2d": [n, n, n, n]}`, which is top, left, bottom, right
- prompts for JSON: `{"x1": n, "y1": n, "x2": n, "y2": n}`, likewise `xmin`, `left`, ...; `x`, `y`,
  `width`, `height`; a middle and a size; corners `{"x": n, "y": n}`; ranges `{"x": [n, n],
  "y": [n, n]}`; in an object of its own or below `bbox`; `x1=n, y1=n, ...`; `bbox: n, n, n, n`
- MiniGPT-v2, and prompts with examples: `<p>cat</p> {<n><n><n><n>}`, `<box><n><n><n><n></box>`
- DeepSeek-VL2: `<|ref|>cat<|/ref|><|det|>[[n, n, n, n]]<|/det|>`; GLM-4.5V:
  `<|begin_of_box|>[[n, n, n, n]]<|end_of_box|>`; CogVLM and Shikra: `[[n,n,n,n;n,n,n,n]]`
- Florence-2 and detectors: `{"bboxes": [[n, n, n, n], ...], "labels": ["cat", ...]}`
- Pascal VOC: `<xmin>n</xmin><ymin>n</ymin>...`; Chinese: `左上角(n, n)，右下角(n, n)`
- Markdown tables: a column of boxes (in the order that its header names), of the two corners, or of
  each number (`x1`, `xmin`, `left`, `width`, ...), beside a column of labels

Text is matched, never evaluated. Invalid boxes are reported, not dropped. Boxes in a model's
thoughts (`<think>...</think>`) are not its answer, and are not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from langchain_internvl.grounding.box import Box, Size, Space, scale_of
from langchain_internvl.grounding.corners import Found
from langchain_internvl.grounding.forms import find_boxes
from langchain_internvl.grounding.indentation import Unindented
from langchain_internvl.grounding.labels import Labels, refs_of, without_labels
from langchain_internvl.grounding.tables import without_headers

# A possible box: a bracket with numbers, closed or at the end of the text or of the markup.
_ALMOST = re.compile(r"[\[(]{1,3}\s{0,99}[-+]?\.?\d[-+.\d,;%px\s]{0,400}(?:[\])]|$|(?=</))")
_TAG = re.compile(
    r"(?:<b?box>|<\|box_start\|>)((?:[^<\[(]|<(?=[-+\d])){0,400})(?:</b?box>|<\|box_end\|>|<|$)"
)
_PERCENT_KEY = re.compile(
    r"""["']?(?:x_?1|x_?min|left)["']?\s{0,3}[:=]\s{0,3}["']?[\d.]{1,9}\s?(?:%|px)""", re.IGNORECASE
)
_EMPTY = re.compile(
    r"""["'](?:bbox_2d|bbox|box|box_2d|bounding_?box|boundingBox)["']\s{0,99}:\s{0,99}"""
    r"(?:null|None|\[\s{0,99}\]|\{\s{0,99}\})"
)
_LOCATION = re.compile(r"(?:<loc_?\d{1,4}>){2,8}")
"""Location tokens of PaliGemma and Florence-2."""
_TEMPLATE = re.compile(
    r"[\[(]{1,3}\s{0,99}(?:x_?(?:1|min)|left)\s{0,99},\s{0,99}(?:y_?(?:1|min)|top)\b[^\[\]]{0,60}[\])]{0,3}",
    re.IGNORECASE,
)
_MARKUP_TAG = re.compile(
    r"(?:<|&lt;)(?P<end>/?)(?P<tag>ref|b?box|quad)(?:>|&gt;)"
    r"|<\|(?P<deepseek_end>/?)(?P<deepseek>ref|det)\|>|<\|(?P<glm>begin|end)_of_box\|>",
    re.IGNORECASE,
)
"""Tags of InternVL in any case or escaped for HTML, of DeepSeek-VL2 and of GLM-4.5V."""
_CLOSED_BY_OPENER = re.compile(r"[\])}\s]{0,9}<b?box>\s{0,99}")
"""The rest of a reply whose last box ends in `<box>` in place of `</box>`."""
_EMPTY_TAG = re.compile(r"<b?box>\s{0,99}\[{1,2}\s{0,99}\]{1,2}\s{0,99}</b?box>")
_THOUGHTS = re.compile(r"\s*<think>")
_LONGEST = 200_000
_SHARES = 1.5
"""Decimals below this are fractions of 1, which may lie slightly outside the image."""


class Grounding(BaseModel):
    """Boxes in a model's reply.

    Attributes:
        boxes: The boxes, in the order of the reply.
        rejected: Parts of the reply that are not valid boxes, each with the reason.
    """

    model_config = ConfigDict(frozen=True)

    boxes: tuple[Box, ...] = ()
    rejected: tuple[str, ...] = ()


def parse_boxes(text: str, size: Size | None = None, space: Space = "norm1000") -> list[Box]:
    """Parse the boxes in a model's reply.

    Args:
        text: The reply, with special tokens such as `<ref>` and `<box>` if it has any.
        size: Width and height of the image in pixels; required for space="pixel" and for
            `Box.pixels`.
        space: Coordinate space of the numbers: "norm1000" (InternVL's thousandths; decimals that
            are all about 1 or less are read as fractions), "unit" or "pixel".

    Returns:
        The boxes in order; empty if there are none. `parse_grounding` also reports invalid boxes.

    Raises:
        ValueError: The space is unknown, or "pixel" without `size`.
    """
    return list(parse_grounding(text, size, space).boxes)


def parse_grounding(
    text: str,
    size: Size | None = None,
    space: Space = "norm1000",
    confidence: Callable[[int, int], float | None] | None = None,
) -> Grounding:
    """Parse the boxes in a model's reply, and report the invalid ones.

    Args:
        text: As for `parse_boxes`.
        size: As for `parse_boxes`.
        space: As for `parse_boxes`.
        confidence: Function from start and end of a part of the text (in characters) to the
            model's confidence in it (0 to 1); None: no confidences.

    Raises:
        ValueError: As for `parse_boxes`.
    """
    scale_of(space, size)
    boxes: list[Box] = []
    rejected: list[str] = []
    if len(text) > _LONGEST:
        rejected.append(f"what follows after {_LONGEST} characters was not read")
        text = text[:_LONGEST]
    text = _MARKUP_TAG.sub(_as_internvl, text)
    if (thoughts := text.rfind("</think>")) >= 0:
        # Boxes that a model considers are not its answer. Positions in the text stay.
        thoughts += len("</think>")
        text = " " * thoughts + text[thoughts:]
        if not text.strip():
            rejected.append("the reply has thoughts, and no answer")
    elif _THOUGHTS.match(text):
        return Grounding(rejected=(*rejected, "the reply ends within its thoughts"))
    unindented = Unindented(text)
    text = unindented.text
    labels = Labels(text)
    unlabelled = without_labels(text)
    rest = without_headers(unlabelled)
    end = 0
    for found in find_boxes(unlabelled):
        rejected += _almost(rest[end : found.start], is_end=False)
        end = found.end
        label = labels.label(found)
        try:
            box = _mended(found, size, space, label)
        except ValueError as error:
            rejected.append(f"{text[found.start : found.end]}: {error}")
            continue
        if confidence is not None:
            places = unindented.place(found.start), unindented.place(found.end - 1) + 1
            box = box.model_copy(update={"confidence": confidence(*places)})
        boxes.append(box)
    if not (end and _CLOSED_BY_OPENER.fullmatch(text, end)):
        rejected += _almost(rest[end:], is_end=True)
    named = {box.label for box in boxes}
    rejected += [
        f"{name}: no box"
        for name in dict.fromkeys(refs_of(text))
        if name not in named and not any(reason.startswith(name) for reason in rejected)
    ]
    return Grounding(boxes=tuple(boxes), rejected=tuple(rejected))


def _as_internvl(tag: re.Match[str]) -> str:
    """A tag as InternVL writes it, of the same length."""
    if tag["tag"]:
        name = f"<{tag['end']}{tag['tag'].lower()}>"
    elif tag["deepseek"]:
        name = f"<{tag['deepseek_end']}{'ref' if tag['deepseek'].lower() == 'ref' else 'box'}>"
    else:
        name = "<box>" if tag["glm"].lower() == "begin" else "</box>"
    return name.ljust(len(tag.group()))


def _almost(text: str, *, is_end: bool) -> list[str]:
    """Invalid boxes in a part of the text without boxes, each with the reason."""
    reasons = [
        f"{match.group().strip()}: the template, not a box" for match in _TEMPLATE.finditer(text)
    ]
    for match in _ALMOST.finditer(text):
        piece = match.group().strip()
        if piece.endswith(("]", ")")) or match.end() < len(text):
            reasons += _misread(piece)
        elif is_end and match.group().startswith("["):
            reasons.append(f"{piece}: cut off")
    for match in _TAG.finditer(text):
        if match.end(1) == len(text) and not is_end:
            continue  # a box follows
        piece = match[1].strip()
        reasons += _misread(piece, fewest=1) or [f"{piece or 'an empty box'}: no numbers"]
    reasons += ["an empty box: no numbers" for _ in _EMPTY_TAG.finditer(text)]
    reasons += [f"{match.group()}: no coordinates" for match in _EMPTY.finditer(text)]
    reasons += [f"{match.group()}: {_WITH_UNITS}" for match in _PERCENT_KEY.finditer(text)]
    reasons += [
        f"{match.group()}: location tokens of another model, not coordinates"
        for match in _LOCATION.finditer(text)
    ]
    return reasons


_WITH_UNITS = "numbers with a unit; plain numbers of one space are read"


def _misread(piece: str, fewest: int = 2) -> list[str]:
    """Why numbers are not a box; nothing for fewer than `fewest` numbers."""
    many = len(re.findall(r"\d+(?:\.\d+)?", piece))
    if many < fewest:
        return []
    if "%" in piece or "px" in piece:
        return [f"{piece}: {_WITH_UNITS}"]
    if many == 4:
        return [f"{piece}: four numbers that neither commas nor spaces part as those of a box"]
    return [f"{piece}: {many} number{'s' * (many > 1)}, not four"]


def _mended(found: Found, size: Size | None, space: Space, label: str | None) -> Box:
    """The box of a candidate, with its corners sorted and clipped to the image.

    Raises:
        ValueError: The numbers are not a box.
    """
    if found.problem:
        raise ValueError(found.problem)
    values = [float(number) for number in found.numbers]
    repairs = list(found.repairs)
    # As thousandths they would be smaller than two pixels of a thousand.
    are_shares = any("." in number for number in found.numbers) and max(map(abs, values)) < _SHARES
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
