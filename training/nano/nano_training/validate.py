"""Figures to choose between weights by: `python -m nano_training.validate WEIGHTS...`.

The language model reads each question with its right answer, in one pass: an answer all of whose
tokens are the likeliest is what greedy decoding says. So a choice costs seconds. Boxes are measured
by the likeliest digits, each after the right ones, which is a little kinder than decoding. The
figures of the card are `evaluate`'s.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import InternVLForConditionalGeneration

from nano_training.batches import Batch, collate
from nano_training.encoding import Encoder
from nano_training.export import mixed
from nano_training.model import (
    answer,
    build_config,
    build_model,
    build_tokenizer,
    load,
    see,
    speed_up,
)
from nano_training.samples import Question, Sample
from nano_training.scores import Score, overlap, share
from nano_training.trials import LOCATING, Trial, draw_trials

SEED = 3001
"""Of the pictures by which weights are chosen; figures of the card are of others."""

COUNTS: Mapping[str, int] = {
    "ground": 120, "describe": 120, "ask": 120, "video": 60,
    "few lines": 80, "page": 60, "blank": 30, "place line": 60, "cited": 60,
    "short lines": 12, "find line": 12,
}  # fmt: skip
"""Pictures of each job."""


@dataclass(frozen=True)
class Seen:
    """A trial that a vision tower has seen.

    Attributes:
        batch: Its prompt and answer, and the features of its tiles.
        truth: The answer.
    """

    batch: Batch
    truth: str


def look(model: InternVLForConditionalGeneration, trial: Trial, encoder: Encoder) -> Seen:
    """Show a trial to a model's vision tower."""
    sample = Sample(
        trial.pictures,
        [Question("ask", trial.question, trial.truth)],
        is_video=trial.is_video,
        is_numbered=trial.is_numbered,
    )
    if trial.most_tiles is not None:
        sample = replace(sample, most_tiles=trial.most_tiles)
    batch = collate("trial", [encoder.row(sample)], 0)
    with torch.no_grad():
        return Seen(replace(batch, features=see(model, batch.tiles, batch.origin)), trial.truth)


def validate(
    model: InternVLForConditionalGeneration, name: str, trials: Sequence[Seen]
) -> tuple[Score, float]:
    """How many answers are right, and the mean loss of a token.

    Args:
        model: The model, after `speed_up(model, sight=False)`.
        name: The job; of `LOCATING` a box counts from IoU 0.5.
        trials: Its trials.
    """
    tokenizer = build_tokenizer()
    right, losses = [], []
    for one in trials:
        features = one.batch.features
        if features is None:
            raise ValueError("a trial that no vision tower has seen; `look` comes first")
        with torch.no_grad():
            logits, truth, _ = answer(model, one.batch, features, by_segments=True)
        likeliest = logits.argmax(-1)
        losses.append(cross_entropy(logits, truth).item())
        if name in LOCATING:
            said = str(tokenizer.decode(likeliest.tolist()))
            right.append(overlap(said, one.truth) >= 0.5)
        else:
            right.append(bool((likeliest == truth).all()))
    return share(right), sum(losses) / len(losses)


def mixture(described: str) -> dict[str, Tensor]:
    """Weights of a file, or `FILE@SHARE@FILE`: so much of the first, the rest of the second."""
    first, *more = described.split("@")
    weights = {name: tensor.float() for name, tensor in load_file(first).items()}
    if more:
        weights = mixed(weights, load_file(more[1]), float(more[0]))
    return weights


def _hash(described: str) -> list[str]:
    """Of each file that is named."""
    files = described.split("@")[::2]
    return [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]


def _eyes(weights: Mapping[str, Tensor]) -> str:
    """A hash of all that sees: trials are shown once to those that are equal."""
    found = hashlib.sha256()
    for name in sorted(weights):
        if "language_model" not in name:
            found.update(weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("weights", nargs="+", help="FILE or FILE@SHARE@FILE")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    arguments = parser.parse_args()
    model = build_model(build_config(build_tokenizer())).train(mode=False)
    speed_up(model, sight=False)
    encoder = Encoder()
    trials = {name: draw_trials(name, count, arguments.seed) for name, count in COUNTS.items()}
    found: dict[str, dict[str, object]] = {}
    eyes, seen = "", dict[str, list[Seen]]()
    for described in arguments.weights:
        weights = mixture(described)
        load(model, weights)
        if (own := _eyes(weights)) != eyes:
            eyes = own
            seen = {
                name: [look(model, one, encoder) for one in some] for name, some in trials.items()
            }
        figures = found[described] = {"sha256": _hash(described)}
        for name, shown in seen.items():
            score, loss = validate(model, name, shown)
            figures[name] = {**asdict(score), "loss": loss}
            print(f"{described}: {name}: {score}; loss {loss:.4f}", flush=True)
    if arguments.out:
        report = {"seed": arguments.seed, "weights": found}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
