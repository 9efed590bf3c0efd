"""Scores of text answers: ANLS, relaxed accuracy, OCRBench, character and word error rates.

Each function takes one prediction and its reference, and agrees with the function of lmms-eval
0.7.3 that its docstring names (fuzz-tested in `tests/integration/test_lmms_eval_metrics.py`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from langchain_internvl._optional import require

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
"""Full-width ASCII and the ideographic space to their ordinary forms."""


def anls(prediction: str, answers: str | Sequence[str], threshold: float = 0.5) -> float:
    """Average normalised Levenshtein similarity of one question (DocVQA, InfoVQA).

    1 minus the edit distance over the longer length, of the best answer; letters in lower case and
    white space squeezed for the distance, lengths those of the texts as given. (Biten et al. 2019,
    "Scene Text Visual Question Answering"; `lmms_eval.api.metrics.anls`.)

    Args:
        prediction: The model's answer.
        answers: The accepted answers, at least one.
        threshold: Similarities below it count 0.

    Returns:
        0 to 1.

    Raises:
        ValueError: `answers` is empty.
    """
    distance = _levenshtein()
    found = _squeeze(prediction)
    shares = []
    for answer in _listed(answers):
        # Upper case as in the original: "ß" counts two there.
        longer = max(len(answer.upper()), len(prediction.upper()))
        shares.append(distance(_squeeze(answer), found) / longer if longer else 0.0)
    similarity = 1 - min(shares)
    return similarity if similarity >= threshold else 0.0


def relaxed_accuracy(prediction: str, target: str, tolerance: float = 0.05) -> bool:
    """Whether an answer is correct in ChartQA.

    Numbers may differ by a share of the target ("%" divides by 100); everything else, and a target
    of 0, must be equal regardless of case. (Masry et al. 2022, section 5.1;
    `lmms_eval.tasks.chartqa.utils.relaxed_correctness`.)

    Args:
        prediction: The model's answer.
        target: The reference answer.
        tolerance: Greatest relative difference of numbers.
    """
    found, right = _to_float(prediction), _to_float(target)
    if found is not None and right:
        return abs(found - right) / abs(right) <= tolerance
    return prediction.lower() == target.lower()


def ocrbench(prediction: str, answers: str | Sequence[str], dataset: str = "") -> bool:
    """Whether an answer is correct in OCRBench: it contains an accepted answer.

    Full-width characters are folded, letters are in lower case and line ends are spaces; formulas
    of HME100k are compared with case and without spaces. (Liu et al. 2023;
    `lmms_eval.tasks.ocrbench.utils.ocrbench_process_results`.)

    Args:
        prediction: The model's answer.
        answers: The accepted answers, at least one.
        dataset: Data set of the question; only "HME100k" is compared differently.

    Raises:
        ValueError: `answers` is empty.
    """
    fold = _fold_formula if dataset == "HME100k" else _fold_text
    found = fold(prediction.strip())
    return any(fold(answer) in found for answer in _listed(answers))


def exact_match(prediction: str, answers: str | Sequence[str]) -> bool:
    """Whether an answer equals an accepted one, ignoring case, white space and Unicode's form.

    Raises:
        ValueError: `answers` is empty.
    """
    accepted = {_squeeze(_composed(answer)) for answer in _listed(answers)}
    return _squeeze(_composed(prediction)) in accepted


def cer(prediction: str, reference: str) -> float:
    """Character error rate: edit distance over the length of the reference; may exceed 1.

    White space is squeezed on both sides, and both are in Unicode's form NFC: "é" is one character,
    also where a reference (such as the text layer of a PDF) has it as two. An empty reference gives
    0 for an empty prediction and 1 otherwise.
    """
    found, right = (" ".join(_composed(text).split()) for text in (prediction, reference))
    return _error_rate(found, right)


def wer(prediction: str, reference: str) -> float:
    """Word error rate: edit distance in words over the words of the reference; may exceed 1.

    Words are what white space separates, in Unicode's form NFC. An empty reference gives 0 for an
    empty prediction and 1 otherwise.
    """
    return _error_rate(_composed(prediction).split(), _composed(reference).split())


def _error_rate(found: Sequence[str], right: Sequence[str]) -> float:
    if not right:
        return float(bool(found))
    return _levenshtein()(found, right) / len(right)


def _levenshtein() -> Callable[[Any, Any], int]:
    distance: Callable[[Any, Any], int] = require(
        "rapidfuzz.distance.Levenshtein", extra="evaluation"
    ).distance
    return distance


def _listed(answers: str | Sequence[str]) -> Sequence[str]:
    answers = [answers] if isinstance(answers, str) else answers
    if not answers:
        raise ValueError("answers is empty; give at least one accepted answer")
    return answers


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _squeeze(text: str) -> str:
    return " ".join(text.strip().lower().split())


def _to_float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _fold_text(text: str) -> str:
    return text.translate(_FULL_WIDTH).lower().strip().replace("\n", " ")


def _fold_formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")
