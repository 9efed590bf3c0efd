"""The optimisers: Muon for matrices, AdamW for everything else.

With AdamW alone reading had not emerged after 50,000 pictures, with Muon it did after about 60,000.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

_PATCHES = 0.15
"""How much slower than other vectors patch embeddings learn. Their inputs, the pixels of a patch,
mostly rise and fall together, so at full rate brightness soon drowned everything else, places
first of all."""

_BETAS = (0.9, 0.95)


class Optimisers:
    """The optimisers of some of a model's parameters.

    Args:
        model: The model.
        own: Those of its parameters that learn.
        heads: What is asked of it in training only.
        fresh: Those that learn at the whole rate; None: all.
        old_rate: The share of the rate at which all others learn.
    """

    def __init__(
        self,
        model: InternVLForConditionalGeneration,
        own: Iterable[nn.Parameter],
        heads: nn.Module,
        fresh: Iterable[nn.Parameter] | None = None,
        old_rate: float = 1.0,
    ) -> None:
        patches = model.model.vision_tower.embeddings.patch_embeddings.projection.weight
        table = model.get_input_embeddings().weight
        new = None if fresh is None else {id(parameter) for parameter in fresh}
        matrices, others = _groups(old_rate), _groups(old_rate)
        others[0]["params"] += heads.parameters()
        for parameter in own:
            if parameter is not patches:
                is_matrix = parameter.ndim == 2 and parameter is not table
                is_old = new is not None and id(parameter) not in new
                (matrices if is_matrix else others)[is_old]["params"].append(parameter)
        patched = {"params": [patches], "share": _PATCHES * (1.0 if new is None else old_rate)}
        # Rates are set at every step.
        self._each: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=1.0, momentum=0.95, weight_decay=0.03),
            torch.optim.AdamW(others, lr=1.0, betas=_BETAS, weight_decay=0.01),
            torch.optim.AdamW([patched], lr=1.0, betas=_BETAS, weight_decay=0.01),
        ]

    def begin(self, muon_rate: float, adam_rate: float) -> None:
        """Forget the gradients, and set the rates of the next step.

        Args:
            muon_rate: Of matrices.
            adam_rate: Of everything else.
        """
        rates = (muon_rate, adam_rate, adam_rate)
        for optimiser, rate in zip(self._each, rates, strict=True):
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"]

    def step(self) -> None:
        """Change the parameters."""
        for optimiser in self._each:
            optimiser.step()

    def state(self) -> list[dict[str, object]]:
        """What is needed to go on."""
        return [optimiser.state_dict() for optimiser in self._each]

    def restore(self, states: Iterable[dict[str, object]]) -> None:
        """Go on from a state."""
        for optimiser, state in zip(self._each, states, strict=True):
            optimiser.load_state_dict(state)


def _groups(old_rate: float) -> list[dict[str, Any]]:
    """Groups of parameters that learn at the whole rate, and at a share of it."""
    return [{"params": [], "share": share} for share in (1.0, old_rate)]


class Muon(torch.optim.Optimizer):
    """Muon of matrices of few shapes: those of a shape are orthogonalised together.

    The same as `torch.optim.Muon` with its defaults, which takes the matrices one by one: of a
    small model that is 1,900 small products a step, which a GPU waits for longer than it
    calculates.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    Args:
        params: The matrices, or groups of them.
        lr: Learning rate; of tall matrices times the root of height over width.
        momentum: Nesterov's momentum.
        weight_decay: Share of a weight that is lost at a step, times the rate.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Change the matrices that have gradients."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append((matrix, matrix.grad))
            for shape, matrices in by_shape.items():
                self._change(shape, matrices, group)

    def _change(
        self,
        shape: torch.Size,
        matrices: list[tuple[nn.Parameter, Tensor]],
        group: dict[str, Any],
    ) -> None:
        ahead = []
        for matrix, gradient in matrices:
            state = self.state[matrix]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            moving: Tensor = state["momentum_buffer"]
            moving.lerp_(gradient, 1 - group["momentum"])
            ahead.append(gradient.lerp(moving, group["momentum"]))
        updates = _orthogonal(torch.stack(ahead)).to(ahead[0].dtype)
        rate = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
        for (matrix, _), update in zip(matrices, updates.unbind(), strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)


def _orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values of about one: [n, rows, columns].

    Newton and Schulz's iteration with the coefficients of Muon, in bfloat16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.bfloat16()
    x = x.mT if is_tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x
