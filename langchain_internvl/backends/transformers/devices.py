"""Where a module wants its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def execution_device(module: nn.Module) -> torch.device:
    """The device on which a module computes.

    That is where its weights are, unless accelerate keeps them elsewhere and brings them when
    the module is called.
    """
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return next(module.parameters()).device if device is None else torch.device(device)
