"""Train the embedded model: `python -m nano_training.train RUN`.

A run is a folder: it can be stopped and started again, and goes on where it was. Matrices are
trained with Muon and everything else with AdamW; with AdamW alone reading had not emerged after
50,000 pictures, with Muon it did after about 60,000.
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
from nano_training.mixture import MIXTURES, Steps
from nano_training.model import answer, build_config, build_model, build_tokenizer


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        mixture: Name of the mixture of samples.
        steps: Number of steps, of about 0.4 s each on two cores.
        seed: Seed of the samples.
        muon_rate: Highest learning rate of matrices.
        adam_rate: Highest learning rate of everything else.
        warm_up: Steps in which the rates rise.
        steady: Share of the steps after which they fall, along a cosine.
    """

    mixture: str = "all"
    steps: int = 16_000
    seed: int = 1
    muon_rate: float = 1.2e-2
    adam_rate: float = 2.5e-3
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
        tables = {id(model.get_input_embeddings().weight)}
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for parameter in model.parameters():
            is_matrix = parameter.ndim == 2 and id(parameter) not in tables
            (matrices if is_matrix else others).append(parameter)
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=plan.muon_rate, momentum=0.95, weight_decay=0.01),
            torch.optim.AdamW(others, lr=plan.adam_rate, betas=(0.9, 0.95), weight_decay=0.01),
        ]
        self.average = [parameter.detach().clone() for parameter in model.parameters()]

    def learn(self, batch: Batch) -> tuple[float, float]:
        """One step.

        Returns:
            Mean loss, and the share of tokens that were right.
        """
        rates = (self.plan.muon_rate, self.plan.adam_rate)
        for optimiser, highest in zip(self.optimisers, rates, strict=True):
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = highest * self.plan.rate(self.step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, right = answer(self.model, batch)
        loss = functional.cross_entropy(logits, right)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self._average()
        self.step += 1
        return float(loss), float((logits.argmax(-1) == right).float().mean())

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
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        torch.save(state, folder / "state.tmp")
        (folder / "state.tmp").replace(folder / "state.pt")

    def restore(self, folder: Path) -> None:
        """Go on from what was kept."""
        state: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.average = [state["average"][name] for name, _ in self.model.named_parameters()]
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)


def run(folder: Path, plan: Plan, start: Path | None, save_every: int = 250) -> None:
    """Train until the plan is done.

    Args:
        folder: Where the run is kept; if it was begun before, it goes on with its own plan.
        plan: What to do.
        start: Weights to begin with (safetensors or a -hf folder); None: random ones.
        save_every: Steps between two savings.
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
            "before": _history(start),
        }
        (folder / "plan.json").write_text(json.dumps(about, indent=2), "utf-8")
    trainer = Trainer(model, plan)
    if (folder / "state.pt").exists():
        trainer.restore(folder)
    elif start is not None:
        _begin_with(start, trainer)
    _train(trainer, folder, Steps(MIXTURES[plan.mixture], plan.seed, trainer.step, plan.steps,
                                  tokenizer.pad_token_id), save_every)  # fmt: skip


def _begin_with(start: Path, trainer: Trainer) -> None:
    loaded = InternVLForConditionalGeneration.from_pretrained(
        start, dtype=torch.float32, trust_remote_code=False, local_files_only=True
    )
    trainer.model.load_state_dict(loaded.state_dict())
    trainer.average = [parameter.detach().clone() for parameter in trainer.model.parameters()]


def _train(trainer: Trainer, folder: Path, steps: Steps, save_every: int) -> None:
    recent: dict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=60))
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
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    arguments = vars(parser.parse_args())
    if threads := arguments.pop("threads"):
        torch.set_num_threads(threads)
    folder, start = arguments.pop("run"), arguments.pop("start")
    run(folder, Plan(**arguments), start)


if __name__ == "__main__":
    main()
