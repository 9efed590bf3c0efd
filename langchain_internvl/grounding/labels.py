"""Labels of boxes, from the text before a box or from the JSON object around it."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice, pairwise, takewhile

from langchain_internvl.grounding.corners import (
    BOX_KEYS,
    CLOSE,
    FOUR_NUMBERS,
    NUMBER,
    OPEN,
    Found,
)

REF = re.compile(
    r"<ref>((?:(?!<ref>).){0,2000}?)</ref>"
    r"|<\|object_ref_start\|>(.{0,2000}?)<\|object_ref_end\|>"
    r"|<p>([^<>]{0,200})</p>(?=\s{0,99}\{<\d)",
    re.DOTALL,
)
"""Label markup of InternVL, Qwen2-VL and MiniGPT-v2; of nested labels the innermost."""
_REF_OF_BOX = re.compile(
    r"<ref>(?:(?!</?ref>|<b?box>).){0,2000}</ref>(?=\s{0,99}<b?box>)"
    r"|<\|object_ref_start\|>(?:(?!<\|).){0,2000}<\|object_ref_end\|>(?=\s{0,99}<\|box_start\|>)",
    re.DOTALL,
)
"""A label right before its box."""

_MARKUP = re.compile(
    r"</?[A-Za-z][\w-]{0,20}\s?/?>|<[A-Za-z]\w{0,20}\s*$"
    r"|<\|(?:object_ref|box|quad)_(?:start|end)\|>|(?:```|~~~)(?:json|\w{1,20}(?=[ \t]{0,9}\n))?"
)
"""Tags of any kind, which are no part of a label."""
_LABEL_KEYS = (
    "label|name|text|ref|class|category|object|phrase|标签|名称|类别|物体|对象|目标|文本",
    "text_content|caption|description|描述",
)
_STRING = r"""("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_JSON_LABEL = tuple(
    re.compile(rf"""["'](?:{keys})["']\s{{0,99}}[:：]\s{{0,99}}{_STRING}""", re.IGNORECASE)
    for keys in _LABEL_KEYS
)
"""Keys of labels, and those of texts that are the label only where there is none of them."""
_PAIR_OF_LABEL = rf"""["'](?:{"|".join(_LABEL_KEYS)})["']\s{{0,99}}[:：]\s{{0,99}}{_STRING}"""
_FOUR = FOUR_NUMBERS.replace(f"({NUMBER})", NUMBER)
_A_BOX = r"""[\s"'\[({]{0,9}(?:[-+.]?\d|[a-z]\w{0,20}["']?\s{0,3}[:=])"""
_LABEL_OF_BOX = re.compile(
    rf"""{_FOUR}{CLOSE}["']?\s{{0,99}},\s{{0,99}}{_PAIR_OF_LABEL}"""
    rf"""|{_PAIR_OF_LABEL}(?=\s{{0,99}},\s{{0,99}}["'](?:{BOX_KEYS})["']\s{{0,99}}:{_A_BOX})""",
    re.IGNORECASE,
)
"""A label in JSON right after or right before its box."""
_TAGS_OF_BOX = re.compile(r"<b?box>|<\|box_start\|>")
_JSON_LABELS = re.compile(
    r"""["'](?:labels|names|classes|categories|phrases|captions|texts|标签"""
    rf"""|(?P<one>{"|".join(_LABEL_KEYS)}))["']\s{{0,99}}[:：]\s{{0,99}}\[(?P<list>[^\[\]]{{0,20000}})\]""",
    re.IGNORECASE,
)
"""The labels of several boxes in a list beside them, as of Florence-2 and of detectors; `one`: the
key is that of a single label."""
_QUOTES = {r"\'": "'", '"': r"\""}
_OTHER_QUOTES = re.compile(r"""\\.|\"""")
"""Escapes, and quotes that need one in JSON; `_QUOTES` has those that change."""
_ITEM = re.compile(rf"""{_STRING}|[^\s,"']+""")
_NEXT_IN_LIST = re.compile(r"(?:[\s,;\[\]()\d.+-]|null|None){0,400}")
_NO_BOX = re.compile(r"[\[(][^\[\]()]{0,100}[\])]|null|None")
"""An item of a list of boxes that is none; it has a label in the list of labels all the same."""
_BRACES = re.compile(r"""(?<=[:,\[{\s])"(?:[^"\\\n]|\\.){0,2000}"(?=\s{0,99}[:,}\]])|[{}]""")
"""Braces, and strings, which may contain braces."""
_NAME = r"""(?P<name>"(?:[^"\\\n]|\\.){1,100}"|'(?:[^'\\\n]|\\.){1,100}')"""
_KEY = re.compile(
    rf"""{_NAME}\s{{0,99}}:(?:\s{{0,99}}["'])?(?P<opening>[\s\[{{(]{{0,99}})"""
    rf"""(?P<missing>(?:(?:{_NO_BOX.pattern})\s{{0,99}},[\s\[(]{{0,99}}){{0,50}})$"""
)
"""The key of a box, and what stands before it in a list and is none."""
_OWNER_KEY = re.compile(rf"{_NAME}\s{{0,99}}:\s{{0,99}}$")
_LABEL_WORD = r"""["']?\b(?:label|name|ref|class|category|object|phrase)["']?\s{0,3}[:=]\s{0,3}"""
_LABEL_BEFORE = re.compile(rf"(?:^|.*\s){_LABEL_WORD}(.{{1,200}})$", re.IGNORECASE)
_LABEL_AFTER = re.compile(
    rf"""[\])}}]{{0,3}}["']?\s{{0,3}}[,;]?\s{{0,3}}{_LABEL_WORD}"""
    rf"""(?:{_STRING}|["']?([^"'\n,;\[\](){{}}]{{1,200}}))""",
    re.IGNORECASE,
)
_BOX_KEYS = frozenset(
    {
        "array", "bottomleft", "bottomright", "center", "centre", "lowerleft", "lowerright",
        "middle", "tensor", "topright", "upperright", "坐标", "边界框", "检测框", "位置", "区域",
        "bbox2d", "bbox", "bboxes", "bboxes2d", "box2d", "box", "boxes", "boxes2d", "boundingbox",
        "boundingboxes", "coordinates", "coords", "corners", "from", "lefttop", "location", "lt",
        "min", "p1", "point1", "points", "position", "rect", "rectangle", "region", "start", "tl",
        "topleft", "topleftcorner", "upperleft", "upperleftcorner", "vertices", "xyxy",
    }
)  # fmt: skip
"""Keys that introduce a box and are not labels, in lower case and without spaces, `_` and `-`."""
_CONTAINERS = frozenset(
    {
        "annotation", "answer", "data", "detection", "item", "object", "output", "response",
        "result",
    }
)  # fmt: skip
"""Keys of an object that has a box, and which are not its label, spelt likewise."""
_KEY_OF_BOX = re.compile(
    r"\b(?:null|none|bbox(?:es)?|box_?2d|bounding[ _-]?box(?:es)?|coord(?:inate)?s|xyxy|from"
    r"|(?:top|upper|bottom|lower)[ _-]?(?:left|right)(?:[ _-]corner)?"
    r"|(?:np\.|torch\.)?(?:array|tensor)|\\?boxed)(?:_?2d)?(?: coordinates)?$"
    r"|(?:的|位于|在)?(?:边界框|检测框|坐标|位置|左上角)(?:的?坐标)?(?:为|是|在|如下)?$",
    re.IGNORECASE,
)
"""Words before a box that do not name its object; "box" and "region" may."""
_EDGES = " \t,;.:[](){}\"'*`#•|-–—，。；：、（）［］【】"
"""Punctuation around a label in running text, in lists and in Markdown."""
_BOX_FIRST = re.compile(
    r"^[ \t>*•-]{0,9}(?:\d{1,3}[.)][ \t]{1,9})?(?:<b?box>)?[\[(`]{0,3}"
    rf"(?P<box>{OPEN}{_FOUR}){CLOSE}[\])`]{{0,3}}(?:</b?box>)?[ \t]{{0,9}}(?=\S)"
    r"(?P<rest>[^\r\n\[\]{}<>]{1,100})\r?$",
    re.MULTILINE,
)
"""A line that begins with a box: `1. [100, 200, 300, 400]: cat`."""
_REST_IS_LABEL = re.compile(r"[:：,;|–—-]{0,2}(?=[^:=]*[^\W\d_])([^:=]+)")
_BEFORE_LABEL = (":", "：")
_BEFORE_BOX = "[( \t\r\n:=-{"
_LIST_NUMBER = re.compile(r"(?:^|\n)[ \t]{0,9}\d{1,3}[.)]$")
_MOST_STEPS = 50


def refs_of(text: str) -> list[str]:
    """All labels that are marked up in a text."""
    names = ("".join(groups) for groups in REF.findall(text))
    # Some models write the box within the label.
    return [re.split(r"<box>|<\|box_start", name)[0].strip() for name in names]


def without_labels(text: str) -> str:
    """The text with spaces in place of labels beside their boxes, whose numbers are no boxes."""
    for pattern in (_REF_OF_BOX, _LABEL_OF_BOX):
        text = pattern.sub(_blank, text)
    return text


def _blank(match: re.Match[str]) -> str:
    """A match with spaces in place of its group that matched; a text with a tagged box stays."""
    (start, end), text = match.span(match.lastindex or 0), match.string
    if _TAGS_OF_BOX.search(text, start, end):
        return match.group()
    return text[match.start() : start] + " " * (end - start) + text[end : match.end()]


def _plain(key: str) -> str:
    return re.sub(r"[\s_-]", "", key).lower()


def _lines_after_boxes(text: str) -> dict[int, re.Match[str]]:
    """Lines that begin with boxes and tell something about them, by the places of the boxes.

    One such line alone may go on with a sentence, unless it has a colon behind the box.
    """
    lines = list(_BOX_FIRST.finditer(text))
    kept = {line.start("box"): line for line in lines if line["rest"].startswith(_BEFORE_LABEL)}
    for one, other in pairwise(lines):
        if not text[one.end() : other.start()].strip():
            kept |= {one.start("box"): one, other.start("box"): other}
    return kept


class Labels:
    """Finds the labels of the boxes in a text, from left to right.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._last: str | None = None
        self._end = 0
        self._objects: _Objects | None = None
        self._listed: Iterator[str | None] | None = None
        self._lines = _lines_after_boxes(text)

    def label(self, found: Found) -> str | None:
        """The label of the next box; None: no label."""
        between = self._text[self._end : found.start]
        is_first = self._end == 0
        line = self._lines.get(found.start)
        # What stands behind a box on its line is not about the next one.
        self._end = found.end if line is None else line.end()
        self._last = found.label or self._read(found, between, None if is_first else self._last)
        return self._last

    def _read(self, found: Found, between: str, before: str | None) -> str | None:
        if refs := refs_of(between):
            return refs[-1]
        line = self._lines.get(found.start)
        if line is not None and (rest := _REST_IS_LABEL.fullmatch(line["rest"])):
            return rest[1].strip(_EDGES)
        if self._listed is not None and _NEXT_IN_LIST.fullmatch(between):
            for _ in _NO_BOX.finditer(between):
                next(self._listed, None)
            return next(self._listed, None)
        self._listed = None
        key = _KEY.search(between)
        name = _text_of(key["name"]) if key else ""
        if key and _plain(name) not in _BOX_KEYS:
            # Below the key may be an object with a label of its own.
            own = self._of_object(found, "")[0] if "{" in key["opening"] else None
            return own or name
        if key or found.is_object:
            label, is_inside = self._of_object(found, key["missing"] if key else "")
            if is_inside:
                return label
        return self._of_words(found, between, before)

    def _of_object(self, found: Found, missing: str) -> tuple[str | None, bool]:
        """The label in the JSON object of a box; whether there is an object.

        Args:
            found: The box.
            missing: Items of a list of boxes before it that are none.
        """
        self._objects = self._objects or _Objects(self._text)
        label, is_inside = self._objects.label(found)
        before = self._text[max(0, found.start - 99) : found.start].rstrip()
        is_of_several = bool(missing) or before.endswith(("[", "("))
        names: list[str | None] = []
        if label is None or is_of_several:
            names = self._objects.names(found, is_of_several=is_of_several)
        if names:
            self._listed = iter(names)
            for _ in _NO_BOX.finditer(missing):
                next(self._listed, None)
            label = next(self._listed, None)
        return label, is_inside

    def _of_words(self, found: Found, between: str, before: str | None) -> str | None:
        """The label in the words before or after a box; `before`: that of the box before it."""
        words = _MARKUP.sub("\n", between)
        words = _LIST_NUMBER.sub("", words.rstrip(_BEFORE_BOX)).rstrip(_BEFORE_BOX)
        last = words.rpartition("\n")[2]
        last = re.split(r"[\]);,.}]\s|[\])}]", last)[-1]
        last = _without_key(last.strip(_EDGES))
        is_label = any(letter.isalnum() for letter in last)
        if is_label and _plain(last) not in _BOX_KEYS:
            return last
        after = _LABEL_AFTER.match(self._text, found.end)
        if after and (label := _text_of(after[1]) if after[1] else after[2].strip(_EDGES)):
            self._end = max(self._end, after.end())
            return label
        return last if is_label else before  # "box" may be the object's name


def _without_key(words: str) -> str:
    """Words before a box without the key of the box, and without the key of the label."""
    words = _KEY_OF_BOX.sub("", words).strip(_EDGES)
    named = _LABEL_BEFORE.match(words)
    return named[1].strip(_EDGES) if named else words


class _Objects:
    """The JSON objects of a text, which may be incomplete.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._opens: list[int] = []
        self._parents: list[int] = []
        self._closes: list[int] = []
        self._lists = list(_JSON_LABELS.finditer(text))
        unclosed: list[int] = []
        for match in _BRACES.finditer(text):
            place = match.start()
            if match.group() not in "{}":
                continue
            if text[place] == "{":
                self._parents.append(unclosed[-1] if unclosed else -1)
                unclosed.append(len(self._opens))
                self._opens.append(place)
                self._closes.append(len(text))
            elif unclosed:
                self._closes[unclosed.pop()] = place

    def label(self, found: Found) -> tuple[str | None, bool]:
        """The label in the object of a box or in the one around it; whether there is an object."""
        own = self._around(bisect_left(self._opens, found.start + 1) - 1, found.end)
        if own is None:
            return None, False
        start, end = self._opens[own], self._closes[own]
        label = self._label_between(start, end)
        outer = self._around(self._parents[own], end) if found.is_object else None
        if label is None and outer is not None:
            # Sibling objects have their own labels.
            before = max(self._opens[outer], self._text.rfind("}", self._opens[outer], start))
            after = self._text.find("{", end, self._closes[outer])
            label = self._label_between(before, start) or self._label_between(
                end, self._closes[outer] if after < 0 else after
            )
        if label is None and (key := _OWNER_KEY.search(self._text[max(0, start - 120) : start])):
            name = _text_of(key["name"])
            label = None if _plain(name) in _BOX_KEYS | _CONTAINERS else name
        return label, True

    def names(self, found: Found, *, is_of_several: bool) -> list[str | None]:
        """The list of labels in the object of a box, None for other values; empty: none.

        Args:
            found: The box.
            is_of_several: Whether it stands in a list of boxes. The texts in a list below the key
                of a single label belong to one box each only there.
        """
        own = self._around(bisect_left(self._opens, found.start + 1) - 1, found.end)
        if own is None:
            return []
        first = bisect_left(self._lists, self._opens[own], key=lambda one: one.start())
        following = map(self._lists.__getitem__, range(first, len(self._lists)))
        inside = takewhile(lambda listed: listed.end() <= self._closes[own], following)
        lists = islice(inside, _MOST_STEPS)
        for listed in sorted(lists, key=lambda listed: listed["one"] is not None):
            names = [one and _text_of(one) for one in _ITEM.findall(listed["list"])]
            if any(names) and (is_of_several or listed["one"] is None or len(names) == 1):
                return [name or None for name in names]
        return []

    def _around(self, index: int, end: int) -> int | None:
        """The innermost object, from a given one outwards, that contains a position; None: none."""
        for _ in range(_MOST_STEPS):
            if index < 0:
                break
            if self._closes[index] >= end - 1:
                return index
            index = self._parents[index]
        return None

    def _label_between(self, start: int, end: int) -> str | None:
        for pattern in _JSON_LABEL:
            match = pattern.search(self._text, start, min(end, start + 2000))
            if match and (label := _text_of(match[1])):
                return label
        return None


def _text_of(literal: str) -> str:
    """The text of a string literal of JSON, or in single quotes."""
    inside = literal[1:-1]
    if literal.startswith("'"):
        inside = _OTHER_QUOTES.sub(lambda one: _QUOTES.get(one.group(), one.group()), inside)
    try:
        return str(json.loads(f'"{inside}"'))
    except json.JSONDecodeError:
        return literal[1:-1]
