"""Train the embedded model: `python -m nano_training.train RUN`.

A run is a folder: it can be stopped and started again, and goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
from collections import defaultdict, deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration

from nano_training.encoding import Batch
from nano_training.held_out import held_out
from nano_training.landmarks import Landmarks
from nano_training.mixture import MIXTURES, Steps
from nano_training.model import (
    answer,
    build_config,
    build_model,
    build_tokenizer,
    see,
    speed_up,
    width_of,
)
from nano_training.optimisers import Optimisers


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        mixture: Name of the mixture of samples.
        steps: Number of steps, of about 0.4 s each on two cores.
        seed: Seed of the samples.
        muon_rate: Highest learning rate of matrices.
        adam_rate: Highest learning rate of everything else.
        sight: Share of the rates that the vision tower learns at; 0: it is left as it is, which
            is cheaper.
        warm_up: Steps in which the rates rise.
        steady: Share of the steps after which they fall, along a cosine.
    """

    mixture: str = "all"
    steps: int = 16_000
    seed: int = 1
    muon_rate: float = 8e-3
    adam_rate: float = 2e-3
    sight: float = 0.7
    warm_up: int = 200
    steady: float = 0.35

    def rate(self, step: int) -> float:
        """The share of the highest rate at a step."""
        rising = min(1.0, (step + 1) / self.warm_up)
        done = max(0.0, (step / self.steps - self.steady) / (1 - self.steady))
        return rising * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


class Trainer:
    """A model, its optimisers, and the running average of its weights that is exported."""

    def __init__(self, model: InternVLForConditionalGeneration, plan: Plan) -> None:
        self.model = model.train()
        self.plan = plan
        self.step = 0
        self.seconds = 0.0
        self.landmarks = Landmarks(width_of(model))
        self.optimisers = Optimisers(model, model.parameters(), self.landmarks)
        self.average = [parameter.detach().clone() for parameter in model.parameters()]

    def learn(self, batch: Batch) -> tuple[float, float, float]:
        """One step.

        Returns:
            Mean loss, the share of tokens that were right, and the loss of the landmarks.
        """
        rate = self.plan.rate(self.step)
        plan = self.plan
        self.optimisers.begin(plan.muon_rate * rate, plan.adam_rate * rate, plan.sight)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.set_grad_enabled(plan.sight > 0):
                features = see(self.model, batch.tiles, batch.origin)
            logits, right = answer(self.model, batch, features)
        each = functional.cross_entropy(logits, right, reduction="none")
        # What is known already, such as the brackets of a box, shall not outvote the rest.
        unsure = (each.detach() > 0.05).sum().clamp(min=len(each) // 8 + 1)
        window = batch.tiles.shape[1], batch.tiles.shape[2]
        found = self.landmarks(features.float(), batch.known, window, batch.origin)
        loss = each.sum() / unsure + (found if plan.sight > 0 else 0)
        loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimisers.step()
        self._average()
        self.step += 1
        accuracy = (logits.argmax(-1) == right).float().mean()
        return float(each.detach().mean()), float(accuracy), float(found.detach())

    @torch.no_grad()
    def _average(self) -> None:
        weight = 1 - min(0.998, (self.step + 1) / (self.step + 20))
        torch._foreach_lerp_(self.average, list(self.model.parameters()), weight)

    def averaged_state(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        names = (name for name, _ in self.model.named_parameters())
        return dict(zip(names, self.average, strict=True))

    def save(self, folder: Path) -> None:
        """Keep everything that is needed to go on."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.averaged_state(),
            "landmarks": self.landmarks.state_dict(),
            "optimisers": self.optimisers.state(),
        }
        torch.save(state, folder / "state.tmp")
        (folder / "state.tmp").replace(folder / "state.pt")

    def restore(self, folder: Path) -> None:
        """Go on from what was kept."""
        state: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.landmarks.load_state_dict(state["landmarks"])
        self.average = [state["average"][name] for name, _ in self.model.named_parameters()]
        self.optimisers.restore(state["optimisers"])


def run(
    folder: Path,
    plan: Plan,
    start: Path | None,
    look: Path | None = None,
    *,
    save_every: int = 250,
    is_fast: bool = True,
) -> None:
    """Train until the plan is done.

    Args:
        folder: Where the run is kept; if it was begun before, it goes on with its own plan.
        plan: What to do.
        start: Weights to begin with (a -hf folder); None: random ones.
        look: A run of `look`, whose vision tower and landmarks come in their place; None: none.
        save_every: Steps between two savings.
        is_fast: Compile the model first, which takes half a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    model = build_model(build_config(tokenizer), plan.seed)
    if (folder / "plan.json").exists():
        plan = Plan(**json.loads((folder / "plan.json").read_text("utf-8"))["plan"])
    else:
        about = {
            "plan": asdict(plan),
            "commit": _commit(),
            "held_out": held_out().sha256,
            "before": [*_history(start), *([] if look is None else [_looked(look)])],
        }
        (folder / "plan.json").write_text(json.dumps(about, indent=2), "utf-8")
    if is_fast:
        speed_up(model)
    trainer = Trainer(model, plan)
    if (folder / "state.pt").exists():
        trainer.restore(folder)
    else:
        if start is not None:
            _begin_with(start, trainer)
        if look is not None:
            _look_as(look, trainer)
    _train(trainer, folder, Steps(MIXTURES[plan.mixture], plan.seed, trainer.step, plan.steps,
                                  tokenizer.pad_token_id), save_every)  # fmt: skip


def _begin_with(start: Path, trainer: Trainer) -> None:
    loaded = InternVLForConditionalGeneration.from_pretrained(
        start, dtype=torch.float32, trust_remote_code=False, local_files_only=True
    )
    trainer.model.load_state_dict(loaded.state_dict())
    trainer.average = [parameter.detach().clone() for parameter in trainer.model.parameters()]


def _look_as(look: Path, trainer: Trainer) -> None:
    """Take over what a vision tower has learnt alone."""
    state: dict[str, Any] = torch.load(look / "state.pt", weights_only=True)
    trainer.landmarks.load_state_dict(state["landmarks"], strict=False)
    eyes = {
        name: tensor
        for name, tensor in state["model"].items()
        if "vision_tower" in name or "multi_modal_projector" in name
    }
    trainer.model.load_state_dict({**trainer.model.state_dict(), **eyes})
    trainer.average = [parameter.detach().clone() for parameter in trainer.model.parameters()]


def _looked(look: Path) -> Any:
    return json.loads((look / "plan.json").read_text("utf-8"))


def _train(trainer: Trainer, folder: Path, steps: Steps, save_every: int) -> None:
    recent: dict[str, deque[tuple[float, float, float]]] = defaultdict(lambda: deque(maxlen=60))
    loader = DataLoader(steps, batch_size=None, num_workers=1, prefetch_factor=4)
    before, began = trainer.seconds, time.monotonic()
    progress = tqdm(loader, total=trainer.plan.steps, initial=trainer.step, smoothing=0.05)
    for batch in progress:
        recent[batch.kind].append(trainer.learn(batch))
        trainer.seconds = before + time.monotonic() - began
        if trainer.step % 100 == 0 or trainer.step == trainer.plan.steps:
            figures = {
                kind: [round(sum(column) / len(column), 4) for column in zip(*pairs, strict=True)]
                for kind, pairs in sorted(recent.items())
            }
            line = {"step": trainer.step, "seconds": round(trainer.seconds), "figures": figures}
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            progress.set_postfix({kind: value[1] for kind, value in figures.items()})
        if trainer.step % save_every == 0 or trainer.step == trainer.plan.steps:
            trainer.save(folder)


def _history(start: Path | None) -> list[Any]:
    """The runs that the weights to begin with come from."""
    kept = None if start is None else start / "training.json"
    if kept is None or not kept.exists():
        return [] if start is None else ["weights of another origin"]
    history: list[Any] = json.loads(kept.read_text("utf-8"))["runs"]
    return history


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return said.stdout.strip() or "unknown"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--start", type=Path, help="a -hf folder to begin with")
    parser.add_argument("--look", type=Path, help="a run of look, to take the vision tower from")
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    arguments = vars(parser.parse_args())
    if threads := arguments.pop("threads"):
        torch.set_num_threads(threads)
    folder, start, look = (arguments.pop(name) for name in ("run", "start", "look"))
    run(folder, Plan(**arguments), start, look)


if __name__ == "__main__":
    main()
