"""Separates the regions of a layout reply from its text.

Layout models write a region as InternVL writes boxes, `<ref>title</ref><box>[[x1, y1, x2,
y2]]</box>`, or without tags; coordinates are thousandths of the page. The syntax is that of
`langchain_internvl.grounding`, restricted to unambiguous markup: a bracket with four numbers may
be text of the page.
"""

from __future__ import annotations

import re

from langchain_internvl.grounding import Box, parse_boxes

_REGION = re.compile(
    r"<ref>(?:(?!</ref>).){0,400}</ref>\s*<box>[^<]{0,400}</box>|<box>[^<]{0,400}</box>", re.DOTALL
)


def split_elements(text: str) -> tuple[str, tuple[Box, ...]]:
    """The text of a reply without the boxes of its regions, and the regions.

    Args:
        text: The reply.

    Returns:
        The text with the markup of boxes taken out and labels of regions with it, and the boxes
        with their labels, in the order of the reply.
    """
    if "<box>" not in text:
        return text, ()
    boxes: list[Box] = []

    def take(match: re.Match[str]) -> str:
        found = parse_boxes(match[0])
        boxes.extend(found)
        return "" if found else match[0]

    rest = _REGION.sub(take, text)
    return re.sub(r"[ \t]+\n", "\n", rest).strip(), tuple(boxes)
