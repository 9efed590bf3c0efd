"""Execution device of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def execution_device(module: nn.Module) -> torch.device:
    """The device on which a module computes.

    This is the device of its weights, unless accelerate offloads the weights (of the module or of
    its first submodule) and loads them on demand.
    """
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device
