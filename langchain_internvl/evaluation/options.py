"""Which option of a multiple-choice question a reply names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ANSWER_PHRASES = (
    *(
        f"{start}{best}{noun} is"
        for noun in ("answer", "option", "choice")
        for best in ("", "correct ", "best ")
        for start in ("the ", "")
        if (noun, best) not in {("option", ""), ("choice", "best ")}
    ),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:"),
    *("答案是", "答案为", "选"),
    "答えは",
)
"""Phrases that precede the option letter in an answer."""

_AFTER_LETTER = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))
"""Forms of an option letter, with their weights."""

_STARTS, _ENDS, _PHRASE, _ANYWHERE = 10, 9, 7, 0

_MVBENCH_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_MVBENCH_OPTION = re.compile(r"^([A-E])\.\s*(.+)$", re.IGNORECASE)
_DIGIT_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"(?!<=\d)\.(?!\d)")


def option_letter(reply: str, letters: Sequence[str] = "ABCD") -> str:
    """The option letter that a reply names (Video-MME, MLVU, LVBench).

    Of all matches, the form with the greatest weight counts (a letter at the beginning, then at
    the end, after "the answer is", in brackets, before a full stop, colon, bracket or space), and
    of equal forms the last match. (As
    `lmms_eval.tasks._task_utils.mcq_extract.extract_mcq_answer`.)

    Args:
        reply: The model's answer, without thoughts.
        letters: The options, upper case.

    Returns:
        One of `letters`; "" if the reply names none.
    """
    if not reply.strip():
        return ""
    text = reply.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    text = f" {text} "
    found = [
        (weight, text.rfind(form.format(letter)), letter)
        for form, weight in _AFTER_LETTER
        for letter in letters
        if form.format(letter) in text
    ]
    found += _after_phrases(text, letters)
    bare = text.strip()
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((_STARTS, 0, letter))
    for letter in letters:
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((_ENDS, len(text) - 1, letter))
    if not found:
        found = [(_ANYWHERE, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(found, key=lambda one: one[:2])[2] if found else ""


def _after_phrases(text: str, letters: Sequence[str]) -> list[tuple[int, int, str]]:
    lower = text.lower()
    found = []
    for phrase in _ANSWER_PHRASES:
        place = lower.find(phrase)
        for letter in letters if place >= 0 else ():
            after = text.find(letter, place + len(phrase))
            if after >= 0:
                found.append((_PHRASE, after, letter))
    return found


def mvbench_accuracy(prediction: str, answer: str) -> bool:
    """Whether a reply is correct in MVBench (`lmms_eval.tasks.mvbench.utils.mcq_acc`).

    Both are reduced to an option letter A to E where one stands at the beginning ("B. a cat") or
    anywhere by itself after punctuation is removed; otherwise the texts are compared.

    Args:
        prediction: The model's answer.
        answer: The correct option, as a letter or in full.
    """
    return _mvbench_option(prediction) == _mvbench_option(answer)


def _mvbench_option(text: str) -> str:
    option = _MVBENCH_OPTION.match(text.strip())
    if option:
        return option[1].upper()
    text = _without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    for mark in "'\")(":
        text = text.strip(mark)
    text = text.strip().lower()
    letter = re.search(r"\b([A-E])\b", text, re.IGNORECASE)
    return letter[1].upper() if letter else text


def _without_punctuation(text: str) -> str:
    """Removes marks as the VQA evaluation does: beside a space deleted, else made a space."""
    has_number = _DIGIT_COMMA.search(text) is not None
    result = text
    for mark in _MVBENCH_PUNCTUATION:
        is_loose = f"{mark} " in text or f" {mark}" in text or has_number
        result = result.replace(mark, "" if is_loose else " ")
    # The original passes re.UNICODE (32) as the number of replacements.
    return _FULL_STOP.sub("", result, count=32)
