"""Runs of `eval`: their files, their summaries, and the difference of two."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from langchain_internvl.cli.jobs import print_line
from langchain_internvl.evaluation import CaseResult, Estimate, estimate
from langchain_internvl.evaluation import compare as compare_scores
from langchain_internvl.reply_text.finish_reasons import advice_about, is_cut_off

_ERROR_RATES = frozenset({"cer", "wer"})
_SHOWN = 60
THIS = "this run"
"""Name of a run that is being made."""


@dataclass(frozen=True)
class Run:
    """Scores of a run.

    Attributes:
        name: Name of the file, or "this run".
        metric: Name of the metric.
        scores: Scores by the id of the case.
    """

    name: str
    metric: str
    scores: Mapping[str, float]


def read_run(path: Path) -> Run:
    """A run that `eval --out` wrote.

    Raises:
        typer.BadParameter: The file is not one of `eval --out`; the error names the line.
    """
    scores: dict[str, float] = {}
    metrics: set[str] = set()
    try:
        # Not `splitlines`: a reply may contain other separators, such as U+2028.
        lines = path.read_text("utf-8-sig").split("\n")
        for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
            try:
                found = json.loads(line)
                scores[str(found["id"])] = float(found["score"])
                metrics.add(str(found["metric"]))
            except (KeyError, TypeError, ValueError) as error:
                raise typer.BadParameter(
                    f"{path}, line {number}: no result of eval ({error!r})"
                ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path}: cannot be read: {error}") from None
    if len(metrics) != 1:
        raise typer.BadParameter(f"{path}: has no results, or of several metrics")
    return Run(str(path), metrics.pop(), scores)


def write_case(line: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a case: its id, score and reply, or why it failed."""
    if as_json:
        print_line(line)
    elif line["error"]:
        typer.secho(f"{line['id']}  {line['error']}", err=True, fg="red")
    else:
        said = " ".join(line["reply"].split())
        said = said if len(said) <= _SHOWN else f"{said[: _SHOWN - 1]}…"
        typer.echo(f"{line['id']}  {line['score']:.3f}  {said}")


def print_summary(
    metric: str, results: Sequence[CaseResult], older: Run | None, *, as_json: bool
) -> None:
    """Print the mean score with its interval, and the difference to an older run."""
    mean = estimate([one.score for one in results])
    failed = sum(one.error is not None for one in results)
    cut = Counter(str(one.finish_reason) for one in results if is_cut_off(one.finish_reason))
    if as_json:
        print_line({"metric": metric, **_fields(mean), "failed": failed, "cut": cut.total()})
    else:
        notes = [f"{failed} failed"] if failed else []
        notes += [f"{count} {advice_about(reason)}" for reason, count in sorted(cut.items())]
        typer.echo(f"{metric} {mean}{'; ' if notes else ''}{', '.join(notes)}")
    if older is not None:
        scores = {one.id: one.score for one in results}
        print_difference(older, Run(THIS, metric, scores), as_json=as_json)


def check_metric(older: Run, newer: str, metric: str) -> None:
    """Refuse runs of different metrics.

    Args:
        older: A run.
        newer: Name of the other one.
        metric: Its metric.

    Raises:
        typer.BadParameter: The metrics differ.
    """
    if older.metric != metric:
        raise typer.BadParameter(f"{older.name} is scored by {older.metric}, {newer} by {metric}")


def shared_ids(older: Run, newer: str, ids: Iterable[str]) -> list[str]:
    """The cases that two runs have in common.

    Args:
        older: A run.
        newer: Name of the other one.
        ids: Its cases.

    Raises:
        typer.BadParameter: There are none.
    """
    shared = [one for one in ids if one in older.scores]
    if not shared:
        raise typer.BadParameter(f"{older.name} and {newer} have no case in common")
    return shared


def print_difference(older: Run, newer: Run, *, as_json: bool) -> None:
    """Print the mean difference of two runs over the cases that both have.

    Raises:
        typer.BadParameter: The runs have no case in common, or different metrics.
    """
    check_metric(older, newer.name, newer.metric)
    shared = shared_ids(older, newer.name, newer.scores)
    left_out = len(older.scores.keys() ^ newer.scores.keys())
    difference = compare_scores(
        [older.scores[one] for one in shared], [newer.scores[one] for one in shared]
    )
    verdict = _verdict(difference, older.metric)
    if as_json:
        print_line({"difference": _fields(difference), "verdict": verdict, "left_out": left_out})
        return
    typer.echo(f"{older.metric} of {newer.name} minus {older.name}: {difference}: {verdict}")
    if left_out:
        typer.echo(f"{left_out} cases that only one of them has were left out")


def _verdict(difference: Estimate, metric: str) -> str:
    if difference.count < 2:
        return "one case says nothing about the others"
    if difference.low <= 0 <= difference.high:
        return "no difference beyond the choice of cases"
    return "better" if (difference.mean > 0) != (metric in _ERROR_RATES) else "worse"


def _fields(value: Estimate) -> dict[str, Any]:
    return {"mean": value.mean, "low": value.low, "high": value.high, "count": value.count}
