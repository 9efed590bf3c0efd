r"""Separates the regions of a layout reply from its text.

| form | from |
|---|---|
| `<ref>title</ref><box>[[x1, y1, x2, y2]]</box>` | InternVL |
| `<box>...</box><label>title</label><brief>...</brief>`, in its thoughts | Qianfan-OCR, \
`reasoning=True` |
| `![chart](<box>...</box>)`, which stays as `![chart]()` | Qianfan-OCR |
| `<COORD_n>` for numbers in a box | Qianfan-OCR |

Coordinates are thousandths of the image that was shown. The syntax of a box is that of
`langchain_internvl.grounding`, restricted to unambiguous markup: a bracket with four numbers may be
text of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from langchain_internvl.grounding import parse_boxes
from langchain_internvl.grounding.box import intersection_over_union

_BOX = r"<box>((?:[^<]|<COORD_\d{1,4}>){0,400})</box>"
_REGION = re.compile(
    rf"!\[([^\]\n]{{0,100}})\]\(\s*{_BOX}\s*\)"
    r"|(?:<ref>((?:(?!</ref>).){0,400})</ref>\s*)?"
    rf"{_BOX}"
    r"(?:\s*<label>((?:(?!</label>).){0,400})</label>)?"
    r"(?:\s*<brief>((?:(?!</brief>).){0,2000})</brief>)?",
    re.DOTALL,
)
_COORD = re.compile(r"<COORD_(\d{1,4})>")
_SAME = 0.5
"""Least intersection over union that makes two regions one, where parts of a page overlap."""


@dataclass(frozen=True)
class Element:
    """A region of a page.

    Attributes:
        box: Left, top, right and bottom edge in thousandths of the image's width and height.
        label: Kind of the region in the model's words, as "doc_title" or "table"; None: not given.
        brief: What the model says of its content; None: nothing.
    """

    box: tuple[int, int, int, int]
    label: str | None = None
    brief: str | None = None

    def placed(self, part: tuple[int, int, int, int], size: tuple[int, int]) -> Element:
        """The element of a part as an element of the whole page.

        Args:
            part: Left, top, right and bottom edge of the part on the page, in pixels.
            size: Width and height of the page in pixels.
        """
        left, top, right, bottom = part
        across, down = (right - left) / size[0], (bottom - top) / size[1]
        x, y = 1000 * left / size[0], 1000 * top / size[1]
        x1, y1, x2, y2 = self.box
        box = (
            round(x + x1 * across), round(y + y1 * down),
            round(x + x2 * across), round(y + y2 * down),
        )  # fmt: skip
        return replace(self, box=box)


def split_elements(text: str) -> tuple[str, tuple[Element, ...]]:
    """The text of a reply without the boxes of its regions, and the regions.

    Args:
        text: The reply, or its thoughts.

    Returns:
        The text without the markup of regions (of a picture `![label]()` is left, in its place),
        and the regions in the order of the reply, which is the reading order.
    """
    if "<box>" not in text:
        return text, ()
    elements: list[Element] = []

    def take(match: re.Match[str]) -> str:
        picture, picture_box, ref, box, label, brief = match.groups()
        found = _boxes(picture_box or box or "")
        name = next((one.strip() for one in (picture, ref, label) if one and one.strip()), None)
        said = brief.strip() or None if brief else None
        elements.extend(Element(one, name, said) for one in found)
        if not found:
            return match[0]
        return "" if picture is None else f"![{picture}]()"

    rest = _REGION.sub(take, text)
    return re.sub(r"(?<![ \t])[ \t]+\n", "\n", rest).strip(), tuple(elements)


def _boxes(content: str) -> list[tuple[int, int, int, int]]:
    """The boxes between the tags, in thousandths."""
    if numbers := [int(one) for one in _COORD.findall(content)]:
        fours = [numbers[at : at + 4] for at in range(0, len(numbers), 4)]
        content = ", ".join(f"[{', '.join(map(str, one))}]" for one in fours if len(one) == 4)
        content = f"[{content}]"
    return [one.thousandths for one in parse_boxes(f"<box>{content}</box>")]


def merge_elements(parts: Iterable[Sequence[Element]]) -> tuple[Element, ...]:
    """The elements of a page from those of its parts, in order.

    An element in the overlap of two parts, which both name, is there once.

    Args:
        parts: Elements of each part, placed on the page.
    """
    merged: list[Element] = []
    last: Sequence[Element] = ()
    for part in parts:
        merged += [
            one
            for one in part
            if not any(
                one.label == other.label and intersection_over_union(one.box, other.box) >= _SAME
                for other in last
            )
        ]
        last = part
    return tuple(merged)
