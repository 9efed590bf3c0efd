"""Run a chat model over cases and score its replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage

from langchain_internvl.errors import RequestError
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


def _box_score(reply: str, case: Case) -> float:
    if case.box is None:
        raise RequestError(f"case {case.id}: acc@0.5 needs a box")
    boxes = parse_boxes(reply)
    return float(bool(boxes) and acc_at_iou(boxes[0], Box.from_space(case.box, "norm1000")))


def _letter_score(reply: str, case: Case) -> float:
    letters = [chr(ord("A") + place) for place in range(len(case.options) or 4)]
    return float(option_letter(reply, letters) in case.answers)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "anls": lambda reply, case: anls(reply, case.answers),
        "relaxed": lambda reply, case: float(
            any(relaxed_accuracy(reply, answer) for answer in case.answers)
        ),
        "ocrbench": lambda reply, case: float(ocrbench(reply, case.answers, case.dataset)),
        "exact": lambda reply, case: float(exact_match(reply, case.answers)),
        "option": _letter_score,
        "mvbench": lambda reply, case: float(
            any(mvbench_accuracy(reply, answer) for answer in case.answers)
        ),
        "acc@0.5": _box_score,
        "cer": lambda reply, case: min(cer(reply, answer) for answer in case.answers),
        "wer": lambda reply, case: min(wer(reply, answer) for answer in case.answers),
    }
)
"""Metrics by name. All but cer and wer are better the higher they are."""


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
    same cases.

    Args:
        llm: The model. Benchmarks use greedy decoding: set `temperature=0`.
        cases: The cases; read lazily, 64 at once.
        metric: A name of `METRICS`.
        max_tiles: Most tiles of each image; see `tiles.MAX_TILES` for the usual ones.
        concurrency: Most requests in flight.
        **settings: Settings of every call.

    Raises:
        RequestError: The metric is unknown.
    """
    if metric not in METRICS:
        raise RequestError(f"there is no metric {metric!r}; choose one of {', '.join(METRICS)}")
    left = iter(cases)
    while chunk := list(islice(left, _CHUNK)):
        messages: list[LanguageModelInput] = []
        broken: dict[str, Exception] = {}
        for case in chunk:
            try:
                messages.append([case.message(max_tiles=max_tiles)])
            except Exception as error:  # noqa: BLE001 - such as a file that is not there
                broken[case.id] = error
        asked = [case for case in chunk if case.id not in broken]
        replies = llm.batch(
            messages, {"max_concurrency": concurrency}, return_exceptions=True, **settings
        )
        by_id = {case.id: reply for case, reply in zip(asked, replies, strict=True)}
        for case in chunk:
            yield _result(case, broken.get(case.id) or by_id[case.id], metric)


def _result(case: Case, reply: AIMessage | Exception, metric: str) -> CaseResult:
    if isinstance(reply, Exception):
        worst = 1.0 if metric in {"cer", "wer"} else 0.0
        return CaseResult(case.id, "", worst, error=f"{type(reply).__name__}: {reply}")
    text = reply.text.strip()
    reason = reply.response_metadata.get("finish_reason")
    return CaseResult(case.id, text, float(METRICS[metric](text, case)), reason)
