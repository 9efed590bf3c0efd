"""What a run of training does: its data, its rates, and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nano_training.mixture import Course


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        mixture: Name of the mixture of samples.
        first: Name of the mixture of the first steps.
        first_share: Share of the steps that these are.
        steps: Number of steps.
        parts: Batches of a step, each of a kind of its own.
        scale: How many times as many rows a batch has as on a CPU.
        seed: Seed of the samples, and of the first weights.
        muon_rate: Highest learning rate of matrices.
        adam_rate: Highest learning rate of everything else.
        warm_up: Steps in which the rates rise.
        steady: Share of the run after which they fall, along a cosine.
        sight: 1: the vision tower learns too; 0: it is left as it is, which is cheaper.
        sight_of: "all": it learns from everything; "windows": from parts of a tile only, which are
            cheap, and looks at whole tiles as it is.
        minutes: After how long the run ends, if it has not ended before; 0: never.
        shows: How often a batch may be shown while training waits for the next: on a GPU, and where
            the vision tower does not learn.
        fresh: How many layers of language before the last one are new, so learn at the whole rate;
            0: all layers do.
        old_rate: The share of the rate at which all else learns.
    """

    mixture: str = "all"
    first: str = "first"
    first_share: float = 0.0
    steps: int = 16_000
    parts: int = 1
    scale: int = 1
    seed: int = 1
    muon_rate: float = 8e-3
    adam_rate: float = 2e-3
    warm_up: int = 200
    steady: float = 0.35
    sight: int = 1
    sight_of: str = "all"
    minutes: float = 0.0
    shows: int = 1
    fresh: int = 0
    old_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.old_rate != 1 and not self.fresh:
            raise ValueError("old_rate is of all but new layers; say how many are, by fresh")
        if self.sight_of not in ("all", "windows"):
            raise ValueError(f"sight_of is {self.sight_of!r}, neither 'all' nor 'windows'")

    @property
    def learns_whole(self) -> bool:
        """Whether the vision tower learns from whole tiles too."""
        return self.sight > 0 and self.sight_of == "all"

    def course(self, member: int = 0) -> Course:
        """What is shown when, to one of the processes that train together."""
        return Course(
            mixture=self.mixture,
            first=self.first,
            first_steps=round(self.first_share * self.steps),
            parts=self.parts,
            scale=self.scale,
            seed=self.seed,
            member=member,
        )

    def done(self, step: int, seconds: float) -> float:
        """The share of the run that is done."""
        late = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(step / self.steps, late))

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """The share of the highest rate at a step."""
        rising = min(1.0, (step + 1) / self.warm_up)
        falling = max(0.0, (self.done(step, seconds) - self.steady) / (1 - self.steady))
        return rising * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * falling)))
