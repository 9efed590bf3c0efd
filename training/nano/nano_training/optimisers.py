"""The optimisers: Muon for matrices, AdamW for everything else.

With AdamW alone reading had not emerged after 50,000 pictures, with Muon it did after about 60,000.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
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
    """

    def __init__(
        self, model: InternVLForConditionalGeneration, own: Iterable[nn.Parameter], heads: nn.Module
    ) -> None:
        patches = model.model.vision_tower.embeddings.patch_embeddings.projection.weight
        table = model.get_input_embeddings().weight
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = [*heads.parameters()]
        for parameter in own:
            if parameter is not patches:
                is_matrix = parameter.ndim == 2 and parameter is not table
                (matrices if is_matrix else others).append(parameter)
        # Rates are set at every step.
        self._each: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=1.0, momentum=0.95, weight_decay=0.03),
            torch.optim.AdamW(others, lr=1.0, betas=_BETAS, weight_decay=0.01),
            torch.optim.AdamW([patches], lr=1.0, betas=_BETAS, weight_decay=0.01),
        ]

    def begin(self, muon_rate: float, adam_rate: float) -> None:
        """Forget the gradients, and set the rates of the next step.

        Args:
            muon_rate: Of matrices.
            adam_rate: Of everything else.
        """
        rates = (muon_rate, adam_rate, adam_rate * _PATCHES)
        for optimiser, rate in zip(self._each, rates, strict=True):
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = rate

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
