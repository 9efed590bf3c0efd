"""Words and numbers of texts, as they are compared: `line_matching` finds statements by them.

A word is a run of letters and digits; a number keeps its separators ("1,250.00", "10:30", and dates
such as "2024-05-15" are one word), and in scripts without spaces each character is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from langchain_internvl.documents.html_text import without_tags

_SEPARATORS = ".,:/'\u2019\u2044\u2013-"
"""Marks that join digits to one number."""
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, kana and ideographs, which have no spaces between words."""
_JOINED = rf"(?<=\d)[{_SEPARATORS}](?=\d)"
_RUN = re.compile(rf"(?:[^\W_]|{_JOINED})+")
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\W_{_UNSPACED}]|{_JOINED})+")
_NUMBER = re.compile(rf"\d+(?:[{_SEPARATORS}]\d+)*")
_SIGN = re.compile(r"(?<![\w)\]])[-\u2212\u2013][$\u00a3\u00a5\u20ac]?\Z")
_GROUP = re.compile(rf"\d{{3}}(?!\d)[\d{_SEPARATORS}]*\Z")
"""What follows a space within a number: "250.00" of "1 250.00"."""
_MISREAD = re.compile(rf"(?=.*\d)[\doil{_SEPARATORS}]+")


class Number(NamedTuple):
    """A number in a text.

    Attributes:
        digits: Its digits.
        value: What it says, with its sign: "1,250.00" and "1250" are "1250"; parts of a date have
            spaces between them.
    """

    digits: str
    value: str


class Word(NamedTuple):
    """A word of a text.

    Attributes:
        letters: Its letters and digits, in lower case, without accents.
        numbers: The numbers in it.
        is_number: Whether it is a number and nothing else.
        is_group: Whether it may continue the number before it, as "250" in "1 250".
    """

    letters: str
    numbers: tuple[Number, ...]
    is_number: bool = False
    is_group: bool = False


def words_of(text: str, *, unspaced: bool = True) -> list[Word]:
    """The words of a text, without HTML tags.

    Args:
        text: The text.
        unspaced: Each character of a script without spaces is a word; False: their runs are.
    """
    folded = _fold(without_tags(text))
    words: list[Word] = []
    before = 0
    for found in (_WORD if unspaced else _RUN).finditer(folded):
        raw = _as_digits(found[0])
        sign = "-" if _SIGN.search(folded[max(0, found.start() - 3) : found.start()]) else ""
        numbers = [Number(*_read(one[0])) for one in _NUMBER.finditer(raw)]
        if sign and numbers and raw[0].isdigit():
            numbers[0] = Number(numbers[0].digits, sign + numbers[0].value)
        is_number = _NUMBER.fullmatch(raw) is not None
        gap = folded[before : found.start()]
        is_group = bool(words) and words[-1].is_number and gap in {" ", ", ", ". "} and (
            _GROUP.match(raw) is not None
        )  # fmt: skip
        letters = "".join(filter(str.isalnum, found[0]))
        if letters:
            words.append(Word(letters, tuple(numbers), is_number, is_group))
            before = found.end()
    return words


def same_numbers(words: Sequence[Word], others: Sequence[Word]) -> float:
    """How far two texts have the same numbers, in order.

    Returns:
        1: their values are the same; 0.9: their digits, but for signs, decimal points or spaces in
        them; 0: they differ.
    """
    if _numbers(words) == _numbers(others) or [one.value for one in _numbers(words)] == [
        one.value for one in _numbers(others)
    ]:
        return 1.0
    for join in (False, True):
        mine, theirs = _numbers(words, join=join), _numbers(others, join=join)
        if len(mine) == len(theirs) and all(
            one.digits == other.digits or one.value == other.value
            for one, other in zip(mine, theirs, strict=True)
        ):
            return 0.9
    return 0.0


def _numbers(words: Sequence[Word], *, join: bool = False) -> list[Number]:
    """The numbers of words; with `join`, groups of three digits continue the number before."""
    numbers: list[Number] = []
    for word in words:
        if join and word.is_group and numbers:
            digits = numbers[-1].digits + word.numbers[0].digits
            numbers[-1] = Number(digits, digits)
        else:
            numbers += word.numbers
    return numbers


def _fold(text: str) -> str:
    """A text in lower case, without accents, with the digits 0 to 9."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(
        str(unicodedata.decimal(one)) if one.isdecimal() else one
        for one in folded
        if not unicodedata.combining(one)
    )


def _as_digits(word: str) -> str:
    """A word with letters among its digits that look like digits as these: "9OO" is 900."""
    if _MISREAD.fullmatch(word) is None:
        return word
    read = re.sub(r"(?<=\d)[il](?=\d)", "1", word).replace("o", "0")
    return read if _NUMBER.fullmatch(read) else word


def _read(number: str) -> tuple[str, str]:
    """The digits and the value of a number."""
    groups = re.split(f"[{_SEPARATORS}]", number)
    marks = re.findall(f"[{_SEPARATORS}]", number)
    digits = "".join(groups)
    first, last = groups[0], groups[-1]
    if not marks:
        return digits, digits
    are_thousands = all(len(one) == 3 for one in groups[1:-1]) and len(first) <= 3
    if set(marks) <= set(".,'\u2019") and len(set(marks[:-1])) <= 1 and are_thousands:
        if len(last) == 3 and len(set(marks)) == 1 and first.strip("0"):
            return digits, digits
        if len(marks) == 1 or marks[-1] != marks[0]:
            fraction = last.rstrip("0")
            return digits, "".join(groups[:-1]) + (f".{fraction}" if fraction else "")
    elif len(marks) == 1 and marks[0] in ".,":
        fraction = last.rstrip("0")
        return digits, first + (f".{fraction}" if fraction else "")
    return digits, " ".join(groups)
