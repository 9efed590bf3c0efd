"""`eval`: a model over cases, scored, with confidence intervals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_internvl.cli.exit_codes import FAILED
from langchain_internvl.cli.options import ModelOptions, with_options
from langchain_internvl.cli.values import named_path, output_path

if TYPE_CHECKING:
    from langchain_internvl.evaluation import CaseResult


@contextmanager
def _claimed(out: Path, cases: Path) -> Iterator[None]:
    """Keep a file for this run, before any request; an older one stays until the first result.

    Raises:
        typer.BadParameter: It is a folder, or in none, or not writable, or the file of the cases,
            or another process writes it.
    """
    from langchain_internvl.documents.file_locks import Claim
    from langchain_internvl.errors import RequestError

    try:
        is_new = not out.exists()
        if _are_one_file(out, cases):
            raise typer.BadParameter(f"--out: {out} has the cases, and would be overwritten")
        out.open("a").close()
        # A pipe or a device, such as /dev/null, may have several writers.
        claim = Claim(out) if out.is_file() else None
    except RequestError as error:
        raise typer.BadParameter(f"--out: {error}") from None
    except OSError as error:
        raise typer.BadParameter(f"--out: {out} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        if is_new and claim is not None:
            with suppress(FileNotFoundError):  # it was removed or renamed meanwhile
                if not out.stat().st_size:  # the model was unusable
                    out.unlink()
        if claim is not None:
            claim.close()


def _are_one_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there, or cannot be
        return False


@with_options
def evaluate(
    cases: Annotated[
        Path,
        typer.Argument(
            parser=named_path,
            help="JSON Lines: id, question, image, answer, ...",
            show_default=False,
        ),
    ],
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            "-m",
            help="anls, relaxed, ocrbench, exact, option, mvbench, acc@0.5, cer or wer.",
        ),
    ],
    model: ModelOptions,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=output_path,
            metavar="PATH",
            help="File for one line of JSON per case, for compare.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="PATH",
            help="File of an older run (--out), to compare with.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first cases.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Most requests at once.")] = 8,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print cases and the summary as JSON lines.")
    ] = False,
) -> None:
    """Score a model on the cases of a file: each reply, and the mean with its interval."""
    from rich.console import Console
    from rich.progress import track

    from langchain_internvl import evaluation
    from langchain_internvl.cli.runs import (
        THIS,
        check_metric,
        print_summary,
        read_run,
        shared_ids,
        write_case,
    )

    if metric not in evaluation.METRICS:
        known = ", ".join(evaluation.METRICS)
        raise typer.BadParameter(f"--metric: {metric!r} is none; choose one of {known}")
    older = None if baseline is None else read_run(baseline)
    if older is not None:
        check_metric(older, THIS, metric)
    console = Console(stderr=True)
    done: list[CaseResult] = []
    file = None
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(_claimed(out, cases))
        # At once, so that an invalid line is reported before a long run.
        read = list(islice(evaluation.read_cases(cases), limit))
        if not read:
            raise typer.BadParameter(f"{cases} has no cases")
        if older is not None:
            shared_ids(older, THIS, [case.id for case in read])
        llm = model.open(temperature=0)
        results = evaluation.evaluate(llm, read, metric, concurrency=concurrency)
        for result in track(results, "cases", len(read), console=console, transient=True):
            if out is not None and not done:  # not before: the model may be unusable
                file = stack.enter_context(out.open("w", encoding="utf-8"))
            done.append(result)
            line = {**dataclasses.asdict(result), "metric": metric}
            if file is not None:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()  # finished cases survive a crash
            write_case(line, as_json=as_json)
    print_summary(metric, done, older, as_json=as_json)
    if any(result.error for result in done):
        raise typer.Exit(FAILED)
