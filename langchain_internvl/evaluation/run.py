"""Run a chat model over cases and score its replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from string import ascii_uppercase
from types import MappingProxyType
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from langchain_internvl.errors import (
    RequestError,
    RunGuard,
    check_chat_model,
    check_concurrency,
)
from langchain_internvl.evaluation.boxes import acc_at_iou
from langchain_internvl.evaluation.cases import Case
from langchain_internvl.evaluation.options import mvbench_accuracy, option_letter
from langchain_internvl.evaluation.text import (
    anls,
    cer,
    exact_match,
    ocrbench,
    relaxed_accuracy,
    wer,
)
from langchain_internvl.grounding import Box, parse_boxes

Metric = Callable[[str, Case], float]
"""Scores a reply to a case."""

_CHUNK = 64
"""Most cases in memory at once."""


_BY_BOX = frozenset({"acc@0.5"})
"""Metrics that compare with the box of a case; all others compare with its answers."""


def _box_score(reply: str, case: Case) -> float:
    boxes = parse_boxes(reply)
    target = Box.from_space(case.box or (0, 0, 0, 0), "norm1000")
    return float(bool(boxes) and acc_at_iou(boxes[0], target))


def _letter_score(reply: str, case: Case) -> float:
    return float(option_letter(reply, _letters(case)) in _right_letters(case))


def _letters(case: Case) -> list[str]:
    return list(ascii_uppercase[: len(case.options) or 4])


def _right_letters(case: Case) -> list[str]:
    """The letters of the accepted answers, which may be letters or texts of options.

    Raises:
        RequestError: An answer is neither.
    """
    letters = _letters(case)
    found = []
    for answer in case.answers:
        right = _letter_of(answer, case)
        if right is None:
            raise RequestError(
                f"case {case.id}: the answer {answer!r} is no option: give a letter, {letters[0]} "
                f"to {letters[-1]}, or the text of one"
            )
        found.append(right)
    return found


def _letter_of(answer: str, case: Case) -> str | None:
    """The letter that an answer is, or whose option has its text; None: it is neither."""
    letters = _letters(case)
    letter = answer.strip().strip("().").upper()
    if letter in letters:
        return letter
    texts = {
        text.strip().lower(): letter for letter, text in zip(letters, case.options, strict=False)
    }
    return texts.get(answer.strip().lower())


def _mvbench_score(reply: str, case: Case) -> float:
    # An answer that is the text of an option counts by its letter, as in MVBench's own table.
    answers = (_letter_of(answer, case) or answer for answer in case.answers)
    return float(any(mvbench_accuracy(reply, answer) for answer in answers))


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "anls": lambda reply, case: anls(reply, case.answers),
        "relaxed": lambda reply, case: float(
            any(relaxed_accuracy(reply, answer) for answer in case.answers)
        ),
        "ocrbench": lambda reply, case: float(ocrbench(reply, case.answers, case.dataset)),
        "exact": lambda reply, case: float(exact_match(reply, case.answers)),
        "option": _letter_score,
        "mvbench": _mvbench_score,
        "acc@0.5": _box_score,
        "cer": lambda reply, case: min(cer(reply, answer) for answer in case.answers),
        "wer": lambda reply, case: min(wer(reply, answer) for answer in case.answers),
    }
)
"""Metrics by name. All but cer and wer are better the higher they are."""

_ANY = Case(id="any", question="?", answers=("A",), box=(0, 0, 500, 500))


@dataclass(frozen=True)
class CaseResult:
    """Result of one case.

    Attributes:
        id: Name of the case.
        reply: The model's reply, without thoughts; "" if it failed.
        score: Its score; 0 (for error rates 1) if it failed.
        finish_reason: Why the reply ended; None if it failed.
        error: Why the case failed; None: it did not fail.
    """

    id: str
    reply: str
    score: float
    finish_reason: str | None = None
    error: str | None = None


def evaluate(
    llm: BaseChatModel,
    cases: Iterable[Case],
    metric: str,
    *,
    max_tiles: int | None = None,
    concurrency: int = 8,
    **settings: Any,
) -> Iterator[CaseResult]:
    """Send every case to a model and score the replies, in the order of the cases.

    A failed case gives a result with `error` and the worst score, so that two runs always have the
    same cases. A case without the answers or the box that the metric needs is such a case.

    Args:
        llm: The model. Benchmarks use greedy decoding: set `temperature=0`.
        cases: The cases; read lazily, 64 at once.
        metric: A name of `METRICS`.
        max_tiles: Most tiles of each image; see `tiles.MAX_TILES` for the usual ones.
        concurrency: Most requests in flight.
        **settings: Settings of every call.

    Raises:
        RequestError: The metric is unknown, `llm` is the name of a model, or `concurrency` is
            below 1.
        CheckpointError: The model cannot be used.
        ModelNotServedError: The server does not serve the model.
        ServerAccessError: The server rejected the key.
        ImportError: A package is not installed that the model, a video or the metric needs.
    """
    if metric not in METRICS:
        raise RequestError(f"there is no metric {metric!r}; choose one of {', '.join(METRICS)}")
    check_chat_model(llm)
    check_concurrency(concurrency)
    METRICS[metric]("A", _ANY)  # a missing package is reported before the first request
    left, guard = iter(cases), RunGuard()
    while chunk := list(islice(left, _CHUNK)):
        messages: list[LanguageModelInput] = []
        errors: list[Exception | None] = []
        for case in chunk:
            try:
                _check(case, metric)
                messages.append([case.message(max_tiles=max_tiles)])
                errors.append(None)
            except Exception as error:  # noqa: BLE001 - such as a file that is not there
                errors.append(error)
        config: RunnableConfig = {"max_concurrency": concurrency}
        answered = llm.batch(messages, config, return_exceptions=True, **settings)
        if any(not isinstance(one, Exception) for one in answered):
            guard.succeeded()
        replies = iter(answered)
        for case, wrong in zip(chunk, errors, strict=True):
            reply = next(replies) if wrong is None else wrong
            if isinstance(reply, Exception) and (
                isinstance(reply, ImportError) or guard.ends(reply)
            ):
                raise reply
            if not isinstance(reply, Exception):
                guard.succeeded()
            yield _result(case, reply, metric)


def _check(case: Case, metric: str) -> None:
    needed, has_it = (
        ("a box", case.box is not None) if metric in _BY_BOX else ("answers", bool(case.answers))
    )
    if not has_it:
        raise RequestError(f"case {case.id}: {metric} needs {needed}")
    if metric == "option":
        _right_letters(case)
    if metric == "ocrbench" and not all(answer.strip() for answer in case.answers):
        raise RequestError(f"case {case.id}: every reply contains an empty answer")


def _result(case: Case, reply: AIMessage | Exception, metric: str) -> CaseResult:
    if isinstance(reply, Exception):
        worst = 1.0 if metric in {"cer", "wer"} else 0.0
        return CaseResult(case.id, "", worst, error=f"{type(reply).__name__}: {reply}")
    text = reply.text.strip()
    reason = reply.response_metadata.get("finish_reason")
    return CaseResult(case.id, text, float(METRICS[metric](text, case)), reason)
