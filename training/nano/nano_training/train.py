"""Train the embedded model: `python -m nano_training.train RUN`.

A run is a folder: it can be stopped and started again, and goes on where it was. `torchrun
--nproc-per-node 2 -m -- nano_training.train RUN` trains with two processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration

from nano_training.batches import Batch
from nano_training.feeding import Step, feed, through, to_gpu
from nano_training.held_out import held_out
from nano_training.landmarks import Landmarks, places_on_tile
from nano_training.mixture import Steps
from nano_training.model import (
    answer,
    build_config,
    build_model,
    build_tokenizer,
    fresh_parameters,
    load,
    see,
    speed_up,
    width_of,
)
from nano_training.optimisers import Optimisers
from nano_training.plan import Plan
from nano_training.pointing import Goal, pointing
from nano_training.together import EVERY, Group


class Trainer:
    """A model, its optimisers, and the running average of its weights that is exported."""

    def __init__(
        self,
        model: InternVLForConditionalGeneration,
        plan: Plan,
        device: str = "cpu",
        *,
        by_segments: bool = False,
    ) -> None:
        self.by_segments = by_segments
        self.device = torch.device(device)
        self.model = model.train().to(self.device)
        self.plan = plan
        self.step = 0
        self.seconds = 0.0
        self.learns_to_see = plan.sight > 0
        if not self.learns_to_see:
            self.model.model.vision_tower.requires_grad_(requires_grad=False)
            self.model.model.multi_modal_projector.requires_grad_(requires_grad=False)
        self.landmarks = Landmarks(width_of(model)).to(self.device)
        fresh = [one for _, one in fresh_parameters(model, plan.fresh)] if plan.fresh else None
        self.optimisers = Optimisers(
            model, model.parameters(), self.landmarks, fresh, plan.old_rate
        )
        self.average = [parameter.detach().clone() for parameter in model.parameters()]

    def learn(self, batches: Sequence[Batch]) -> list[Tensor]:
        """One step.

        Returns:
            Of each batch the mean loss, the share of tokens that were right, the loss of the
            landmarks, that of pointing and that of letters' places: float32 [5].
        """
        rate = self.plan.rate(self.step, self.seconds)
        self.optimisers.begin(self.plan.muon_rate * rate, self.plan.adam_rate * rate)
        figures = [self._look_at(batch.to(self.device)) for batch in batches]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimisers.step()
        self._average()
        self.step += 1
        return figures

    def learns_from(self, batch: Batch) -> bool:
        """Whether the vision tower learns from a batch."""
        return self.plan.learns_whole or (self.learns_to_see and not batch.is_whole)

    def _look_at(self, batch: Batch) -> Tensor:
        """Add a batch to the gradients."""
        is_learning_to_see = self.learns_from(batch)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            features = batch.features
            if features is None:
                with torch.set_grad_enabled(is_learning_to_see):
                    features = see(self.model, batch.tiles, batch.origin)
            logits, right, inputs = answer(
                self.model, batch, features, by_segments=self.by_segments
            )
            pointed = pointing(self.model, batch, inputs)
        each = functional.cross_entropy(logits, right, reduction="none")
        # What is known already, such as the brackets of a box, shall not outvote the rest.
        unsure = (each.detach() > 0.05).sum().clamp(min=len(each) // 8 + 1)
        found = pointed.new_zeros(())
        if is_learning_to_see:
            found = self.landmarks(features.float(), batch.known, batch.window, batch.origin)
        placed = self._placed(batch, inputs)
        loss = each.sum() / unsure + pointed + self.plan.sight * found + placed
        loss = loss / self.plan.parts
        loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        accuracy = (logits.argmax(-1) == right).float().mean()
        told = each.detach().mean(), accuracy, found.detach(), pointed.detach(), placed.detach()
        return torch.stack(told)

    def _placed(self, batch: Batch, inputs: Sequence[Tensor]) -> Tensor:
        """The loss of what letters know of places, once they are written: float32 []."""
        total = inputs[0].new_zeros((), dtype=torch.float32)
        here = (batch.goals == Goal.HERE).nonzero()[:, 0]
        if len(here):
            places = places_on_tile(batch.window, batch.origin).to(total.device)
            tokens = batch.looked_at(here, self.model.config.image_token_id)
            right = places[tokens % len(places)]
            for read in inputs[-2:]:
                letters = read.flatten(0, 1)[batch.pointers[here]].float()
                total = total + self.landmarks.letters_read(letters, right)
        if len(batch.located):
            letters = inputs[-1].flatten(0, 1)[batch.located].float()
            total = total + self.landmarks.lines(letters, batch.sides)
        return total

    @torch.no_grad()
    def _average(self) -> None:
        weight = 1 - min(0.998, (self.step + 1) / (self.step + 20))
        torch._foreach_lerp_(self.average, list(self.model.parameters()), weight)

    def learnt(self) -> list[Tensor]:
        """All weights that are changed by steps, and the running averages of those."""
        own = zip(self.model.parameters(), self.average, strict=True)
        pairs = [pair for pair in own if pair[0].requires_grad]
        return [*self.landmarks.parameters(), *(one for pair in pairs for one in pair)]

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
        state: dict[str, Any] = torch.load(
            folder / "state.pt", weights_only=True, map_location=self.device
        )
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.landmarks.load_state_dict(state["landmarks"])
        self.average = [state["average"][name] for name, _ in self.model.named_parameters()]
        self.optimisers.restore(state["optimisers"])


def run(
    folder: Path,
    plan: Plan,
    start: Path | None,
    *,
    device: str = "cpu",
    workers: int = 1,
    save_every: int = 250,
    is_fast: bool = True,
) -> None:
    """Train until the plan is done.

    Args:
        folder: Where the run is kept; if it was begun before, it goes on with its own plan, but may
            end after other `minutes`.
        plan: What to do.
        start: Folder with the weights to begin with (`model.safetensors`); None: random ones.
        device: Where to.
        workers: Processes that draw.
        save_every: Steps between two savings.
        is_fast: Compile the model first, which takes half a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    group = Group.join()
    tokenizer = build_tokenizer()
    model = build_model(build_config(tokenizer), plan.seed)
    if (folder / "plan.json").exists():
        about = json.loads((folder / "plan.json").read_text("utf-8"))
        minutes = plan.minutes or about["plan"]["minutes"]
        plan = replace(Plan(**about["plan"]), minutes=minutes)
        again = {"commit": _commit(), "minutes": minutes, "processes": group.count}
        about.setdefault("went_on", []).append(again)
        about["plan"] = asdict(plan)
    else:
        about = {
            "plan": asdict(plan),
            "commit": _commit(),
            "held_out": held_out().sha256,
            "device": _name(device),
            "processes": group.count,
            "before": _history(start),
        }
    group.wait()  # all have read the plan before the first one writes it
    if group.number == 0:
        (folder / "plan.json").write_text(json.dumps(about, indent=2), "utf-8")
    by_segments = is_fast and speed_up(model, device, sight=plan.sight > 0, whole=plan.learns_whole)
    trainer = Trainer(model, plan, device, by_segments=by_segments)
    if (folder / "state.pt").exists():
        trainer.restore(folder)
    elif start is not None:
        _begin_with(start, trainer)
    course = plan.course(group.number)
    steps = Steps(course, trainer.step, plan.steps, tokenizer.pad_token_id)
    loader = DataLoader(
        steps,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers == 1 else 2,
        pin_memory=device != "cpu",
    )
    _train(trainer, folder, loader, save_every, group)


def _begin_with(start: Path, trainer: Trainer) -> None:
    load(trainer.model, load_file(start / "model.safetensors"))
    trainer.average = [parameter.detach().clone() for parameter in trainer.model.parameters()]


class _Log:
    """What the last batches of each kind said, in `log.jsonl` of a run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"
        self._recent: dict[str, deque[Tensor]] = defaultdict(lambda: deque(maxlen=60))

    def add(self, kind: str, told: Tensor) -> None:
        """Note a batch's figures."""
        self._recent[kind].append(told)

    def write(self, step: int, seconds: float) -> None:
        """Add a line with their means."""
        figures = {
            kind: [round(value, 4) for value in torch.stack(list(told)).mean(0).tolist()]
            for kind, told in sorted(self._recent.items())
        }
        line = {"step": step, "seconds": round(seconds), "figures": figures}
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def _fed(trainer: Trainer, loader: DataLoader[list[Batch]], seed: int) -> Iterable[Step]:
    """The steps as they are shown."""
    shows = trainer.plan.shows
    if trainer.device.type != "cpu":
        return feed(loader, to_gpu(trainer.device), shows, seed)
    if shows > 1 and not trainer.plan.learns_whole:
        send = through(trainer.model, windows=not trainer.learns_to_see)
        return feed(loader, send, shows, seed, saving=True)
    return loader


def _train(
    trainer: Trainer,
    folder: Path,
    loader: DataLoader[list[Batch]],
    save_every: int,
    group: Group,
) -> None:
    before, began = trainer.seconds, time.monotonic()
    plan, log = trainer.plan, _Log(folder)
    steps = _fed(trainer, loader, plan.seed + group.number)
    for batches in tqdm(steps, total=plan.steps, initial=trainer.step, mininterval=5):
        for batch, told in zip(batches, trainer.learn(batches), strict=True):
            log.add(batch.kind, told)
        is_saving = trainer.step % save_every == 0 or trainer.step == plan.steps
        if group.count == 1 or trainer.step % EVERY == 0 or is_saving:
            group.mean(trainer.learnt())
            trainer.seconds = group.agree(before + time.monotonic() - began)
        is_over = plan.done(trainer.step, trainer.seconds) == 1.0
        if group.number == 0 and (trainer.step % 100 == 0 or is_over):
            log.write(trainer.step, trainer.seconds)
        if group.number == 0 and (is_saving or is_over):
            trainer.save(folder)
        if is_over:
            return


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


def _name(device: str) -> str:
    """What a device is."""
    if device == "cpu":
        return f"{os.cpu_count()} CPU cores"
    return str(torch.cuda.get_device_name())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--start", type=Path, help="folder whose weights to begin with")
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    has_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if has_gpu else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--no-compile", dest="is_fast", action="store_false")
    arguments = vars(parser.parse_args())
    if _commit().endswith(("-dirty", "unknown")):
        parser.error("commit what was changed first: a run says which commit it is of")
    own = {name: arguments.pop(name) for name in ("device", "workers", "save_every", "is_fast")}
    folder, start = arguments.pop("run"), arguments.pop("start")
    run(folder, Plan(**arguments), start, **own)


if __name__ == "__main__":
    main()
