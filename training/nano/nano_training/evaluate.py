"""Measure a model on held-out pictures: `python -m nano_training.evaluate FOLDER`.

It is asked through ChatInternVL, as users ask it. As a control the first fifty questions are also
asked of another question's picture, where it must do no better than chance.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import HumanMessage
from tqdm import tqdm

from langchain_internvl import ChatInternVL, image_block, video_block
from nano_training.held_out import held_out
from nano_training.scores import Score, error_rate, overlap, right_lines, share
from nano_training.trials import LOCATING, SEED, TRIALS, Trial, draw_trials

TARGETS = {
    "few lines: character error rate": 0.02,
    "few lines: exact lines": 0.92,
    "page: character error rate": 0.06,
    "ground: accuracy at IoU 0.5": 0.92,
    "describe: exact": 0.90,
    "video: exact": 0.98,
    "ask: exact": 0.92,
    "short lines: character error rate": 0.08,
    "find line: accuracy at IoU 0.5": 0.80,
    "blank: exact": 0.98,
    "place line: accuracy at IoU 0.5": 0.80,
    "cited: exact": 0.90,
}
"""What is aimed at; error rates at most, the others at least."""

_COLD_START = Path(__file__).parents[3] / "benchmarks" / "cold_start.py"

CONTROLS = 50
"""Questions of each job that are also asked of another question's picture."""

Answers = Sequence[tuple[str, str]]
"""Pairs of an answer and the truth."""


def answer(llm: ChatInternVL, trials: Sequence[Trial], at_once: int = 16) -> list[str]:
    """What a model says to trials."""
    messages: list[LanguageModelInput] = [
        [HumanMessage([*_media(trial), {"type": "text", "text": trial.question}])]
        for trial in trials
    ]
    replies = []
    for start in tqdm(range(0, len(messages), at_once), leave=False, disable=len(messages) < 2):
        batch = llm.batch(messages[start : start + at_once])
        replies += [str(reply.content) for reply in batch]
    return replies


def _media(trial: Trial) -> list[dict[str, Any]]:
    """The blocks of a trial's pictures."""
    if trial.is_video:
        return [video_block(list(trial.pictures))]
    images = [image_block(one, max_tiles=trial.most_tiles) for one in trial.pictures]
    if not trial.is_numbered:
        return images
    numbered = enumerate(images, 1)
    return [one for n, image in numbered for one in ({"type": "text", "text": f"[{n}]"}, image)]


def latency(llm: ChatInternVL, count: int = 10) -> dict[str, float]:
    """Seconds of one answer at a time by job, the median of several; the model is loaded before."""
    llm.invoke("Hello", max_tokens=1)
    seconds: dict[str, float] = {}
    for name in ("describe", "few lines", "ground", "video"):
        taken = []
        for trial in draw_trials(name, count):
            began = time.perf_counter()
            answer(llm, [trial])
            taken.append(time.perf_counter() - began)
        seconds[name] = median(taken)
    return seconds


def cold_start() -> dict[str, float]:
    """Seconds from `python` to the first answer, in fresh processes; see the benchmark."""
    command = [sys.executable, str(_COLD_START), "--json"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603 - ours
    found: dict[str, float] = json.loads(done.stdout)
    return found


def figures(name: str, answers: Answers) -> dict[str, Score]:
    """The figures of a job."""
    if name in ("few lines", "page", "short lines"):
        lines = [right for pair in answers for right in right_lines(*pair)]
        return {
            f"{name}: character error rate": error_rate(answers),
            f"{name}: exact lines": share(lines),
        }
    if name in LOCATING:
        return {f"{name}: accuracy at IoU 0.5": share([overlap(*pair) >= 0.5 for pair in answers])}
    return {f"{name}: exact": share([said == truth for said, truth in answers])}


def speed(folder: Path) -> dict[str, Any]:
    """How fast a model answers, warm, and the embedded one cold."""
    llm = ChatInternVL(model=str(folder), temperature=0, max_tokens=400)
    return {
        "latency": latency(llm),
        "cold_start": cold_start(),
        "cpu": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def evaluate(folder: Path, count: int, names: Sequence[str], seed: int = SEED) -> dict[str, Any]:
    """All figures of a model.

    Args:
        folder: The model, a -hf checkpoint.
        count: Samples of each job.
        names: The jobs.
        seed: Of the pictures; any but `SEED` to choose between weights.
    """
    llm = ChatInternVL(model=str(folder), temperature=0, max_tokens=400)
    report: dict[str, Any] = {"seed": seed, "held_out": held_out().sha256, "controls": CONTROLS}
    report["figures"] = {}
    for name in names:
        trials = draw_trials(name, count, seed)
        began = time.perf_counter()
        said = answer(llm, trials)
        seconds = time.perf_counter() - began
        others = trials[1:] + trials[:1]
        shifted = [
            replace(trial, pictures=other.pictures)
            for trial, other in zip(trials[:CONTROLS], others, strict=False)
        ]
        control = answer(llm, shifted)
        truths = [trial.truth for trial in trials]
        right = figures(name, list(zip(said, truths, strict=True)))
        wrong = figures(name, list(zip(control, truths, strict=False)))
        for figure, score in right.items():
            report["figures"][figure] = {
                "value": score.value, "low": score.low, "high": score.high,
                "samples": score.samples, "pictures": count, "control": wrong[figure].value,
                "target": TARGETS.get(figure),
            }  # fmt: skip
            print(f"{figure}: {score}; wrong picture: {wrong[figure].value:.1%}", flush=True)
        report.setdefault("seconds_per_answer", {})[name] = seconds / count
        report.setdefault("examples", {})[name] = [
            {"question": trial.question, "truth": trial.truth, "said": reply}
            for trial, reply in zip(trials[:5], said[:5], strict=True)
        ]
    return report


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=500, help="samples of each job")
    parser.add_argument("--seed", type=int, default=SEED, help="of the pictures")
    parser.add_argument("--jobs", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--speed", choices=("too", "only", "not"), default="too")
    parser.add_argument("--out", type=Path, help="where the report goes, as JSON")
    parser.add_argument("--add", action="store_true", help="keep what the report has of other jobs")
    arguments = parser.parse_args()
    report: dict[str, Any] = {}
    if arguments.speed != "not":
        report = speed(arguments.folder)
    if arguments.speed != "only":
        report |= evaluate(arguments.folder, arguments.count, arguments.jobs, arguments.seed)
    if arguments.out:
        # Read only now: another process may have measured other jobs meanwhile.
        known = json.loads(arguments.out.read_text("utf-8")) if arguments.add else {}
        for name in ("figures", "seconds_per_answer", "examples"):
            report[name] = {**known.get(name, {}), **report.get(name, {})}
        arguments.out.write_text(json.dumps({**known, **report}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
