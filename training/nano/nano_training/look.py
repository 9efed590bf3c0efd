"""Teach a vision tower alone: `python -m nano_training.look RUN`.

Without a language model a picture costs a fraction, and every token is asked what is in its square
(see `landmarks`), so letters and shapes are learnt from very many pictures before anything has to
be said. After 80,000 windows (seven minutes on two cores), on one batch of training's own kind, 44%
of the letters of windows and 37% of those of whole tiles were right, and 89% of the shapes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from nano_training.held_out import held_out
from nano_training.landmarks import Landmarks
from nano_training.mixture import CELL, TILE
from nano_training.model import (
    build_config,
    build_model,
    build_tokenizer,
    see,
    speed_up,
    width_of,
)
from nano_training.optimisers import Optimisers
from nano_training.pages import Print, draw_page
from nano_training.scenes import draw_scene
from nano_training.things import UNKNOWN, landmarks, letters_known

_WINDOWS = ((1, 4), (2, 4), (2, 2), (3, 3), (2, 6), (4, 4), (4, 4), (3, 6), (5, 5), (8, 8))
_TOKENS = 900
"""Tokens of a batch, about."""

Look = tuple[Tensor, Tensor, tuple[int, int]]
"""Tiles, what their tokens should know, and the patch of the tile where the windows begin."""


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        steps: Number of steps, of about a quarter of a second on two cores.
        seed: Seed of the pictures.
        muon_rate: Highest learning rate of matrices.
        adam_rate: Highest learning rate of everything else.
        warm_up: Steps in which the rates rise.
        steady: Share of the steps after which they fall.
    """

    steps: int = 7000
    seed: int = 1
    muon_rate: float = 1.2e-2
    adam_rate: float = 2e-3
    warm_up: int = 200
    steady: float = 0.4

    def rate(self, step: int) -> float:
        """The share of the highest rate at a step."""
        rising = min(1.0, (step + 1) / self.warm_up)
        return rising * (1 - 0.95 * max(0.0, (step / self.steps - self.steady) / (1 - self.steady)))


class Looks(Dataset[Look]):
    """Batches of windows of a tile: half of them text, half shapes."""

    def __init__(self, seed: int, begin: int, end: int) -> None:
        self._seed, self._begin, self._end = seed, begin, end

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, index: int) -> Look:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = random.Random(f"look/{self._seed}/{self._begin + index}")
        tokens = rows, columns = rng.choice(_WINDOWS)
        origin = rng.randint(0, 8 - rows), rng.randint(0, 8 - columns)
        is_text = rows < 2 or columns < 3 or rng.random() < 0.55
        many = min(72, _TOKENS // (rows * columns))
        drawn = [
            _page(rng, tokens) if is_text else _scene(rng, origin, tokens) for _ in range(many)
        ]
        tiles = torch.from_numpy(np.stack([pixels for pixels, _ in drawn]))
        known = torch.from_numpy(np.concatenate([facts for _, facts in drawn]))
        return tiles, known, (2 * origin[0], 2 * origin[1])


_Drawn = tuple[NDArray[np.uint8], NDArray[np.float32]]


def _page(rng: random.Random, tokens: tuple[int, int]) -> _Drawn:
    height, width = tokens[0] * CELL, tokens[1] * CELL
    style = Print((1, 2 * tokens[0]), (20, 50), one_font=rng.random() < 0.3)
    picture, _, letters = draw_page(rng, width, height, style)
    return np.asarray(picture), letters_known(letters, (0, 0, width, height), tokens)


def _scene(rng: random.Random, origin: tuple[int, int], tokens: tuple[int, int]) -> _Drawn:
    top, left = origin[0] * CELL, origin[1] * CELL
    area = (left, top, left + tokens[1] * CELL, top + tokens[0] * CELL)
    most = max(1, min(4, tokens[0] * tokens[1] // 7))
    picture, things = draw_scene(rng, TILE, TILE, count=rng.randint(1, most), area=area)
    return np.asarray(picture.crop(area)), landmarks(things, (TILE, TILE), area, tokens)


class Looker:
    """A vision tower, its landmarks and their optimisers."""

    def __init__(self, plan: Plan, *, is_fast: bool) -> None:
        self.plan, self.step = plan, 0
        self.model = build_model(build_config(build_tokenizer()), plan.seed).train()
        if is_fast:
            speed_up(self.model)
        self.landmarks = Landmarks(width_of(self.model))
        parts = (self.model.model.vision_tower, self.model.model.multi_modal_projector)
        self._own = [parameter for part in parts for parameter in part.parameters()]
        self._optimisers = Optimisers(self.model, self._own, self.landmarks)

    def learn(self, look: Look) -> float:
        """One step; the loss."""
        tiles, known, origin = look
        rate = self.plan.rate(self.step)
        self._optimisers.begin(self.plan.muon_rate * rate, self.plan.adam_rate * rate)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = see(self.model, tiles, origin)
        window = tiles.shape[1], tiles.shape[2]
        loss: Tensor = self.landmarks(features.float(), known, window, origin)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._own, 1.0)
        self._optimisers.step()
        self.step += 1
        return float(loss.detach())

    def save(self, folder: Path) -> None:
        """Keep everything that is needed to go on, and what `train --look` takes over."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "landmarks": self.landmarks.state_dict(),
            "optimisers": self._optimisers.state(),
        }
        torch.save(state, folder / "state.tmp")
        (folder / "state.tmp").replace(folder / "state.pt")

    def begin_with(self, start: Path) -> None:
        """Go on with what a run of `train` has made of it."""
        state: dict[str, Any] = torch.load(start / "state.pt", weights_only=True)
        self.model.load_state_dict({**state["model"], **state["average"]})
        self.landmarks.load_state_dict(state["landmarks"])

    def restore(self, folder: Path) -> None:
        """Go on from what was kept."""
        state: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.landmarks.load_state_dict(state["landmarks"])
        self._optimisers.restore(state["optimisers"])


def run(
    folder: Path,
    plan: Plan,
    start: Path | None = None,
    *,
    save_every: int = 500,
    is_fast: bool = True,
) -> None:
    """Look until the plan is done.

    Args:
        folder: Where the run is kept; if it was begun before, it goes on with its own plan.
        plan: What to do.
        start: A run of `train`, whose averaged tower and landmarks are gone on with; None: random.
        save_every: Steps between two savings.
        is_fast: Compile the model first, which takes half a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plan.json"
    if file.exists():
        plan = Plan(**json.loads(file.read_text("utf-8"))["look"])
    about = {"look": asdict(plan), "held_out": held_out().sha256}
    if start is not None:
        about["before"] = json.loads((start / "plan.json").read_text("utf-8"))
    file.write_text(json.dumps(about, indent=2), "utf-8")
    looker = Looker(plan, is_fast=is_fast)
    if (folder / "state.pt").exists():
        looker.restore(folder)
    elif start is not None:
        looker.begin_with(start)
    looks = Looks(plan.seed, looker.step, plan.steps)
    loader = DataLoader(looks, batch_size=None, num_workers=1, prefetch_factor=8)
    recent: dict[str, deque[float]] = {name: deque(maxlen=100) for name in ("text", "shapes")}
    progress = tqdm(loader, total=plan.steps, initial=looker.step, mininterval=5)
    for look in progress:
        is_text = bool(look[1][0, 0] == UNKNOWN)
        recent["text" if is_text else "shapes"].append(looker.learn(look))
        if looker.step % 100 == 0:
            means = {name: sum(some) / len(some) for name, some in recent.items() if some}
            progress.set_postfix({name: f"{mean:.3f}" for name, mean in means.items()})
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": looker.step, **means}) + "\n")
        if looker.step % save_every == 0 or looker.step == plan.steps:
            looker.save(folder)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--start", type=Path, help="a run of train, to go on with its tower")
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    folder, start = arguments.pop("run"), arguments.pop("start")
    run(folder, Plan(**arguments), start)


if __name__ == "__main__":
    main()
