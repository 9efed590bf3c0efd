"""A larger model that answers as a smaller one did, to go on training from.

Widths grow by new places at the end of every vector. What is written to new places of the
residual stream begins at zero, and what reads new features of a layer begins at zero, so nothing
changes at first, while all of it has gradients. Layers are added at the end, writing nothing.
The one approximation is the projector's LayerNorm, whose mean is then over more places.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration

State = dict[str, Tensor]

_LAYER = re.compile(r"(vision_tower\.encoder\.layer|language_model\.layers)\.(\d+)\.")
# Weights [out, in] that write to the residual stream from features of their own layer.
_WRITES = re.compile(
    r"(attention\.projection_layer|mlp\.fc2|o_proj|down_proj|multi_modal_projector\.linear_2)\.weight"
)
# Vectors and tables that are added to the residual stream.
_ADDED = re.compile(
    r"(projection_layer\.bias|fc2\.bias|linear_2\.bias|cls_token|position_embeddings|"
    r"patch_embeddings\.projection\.(weight|bias)|embed_tokens\.weight|lm_head\.weight)"
)
_NORM = re.compile(r"(norm\w*|layer_norm)\.weight")


def centre(state: State) -> State:
    """The same vision model, whose residual stream has mean zero, as padding with zeros needs."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    for name, tensor in state.items():
        if "vision_tower" not in name:
            continue
        for scale, writer in (("lambda_1", "attention.projection_layer"), ("lambda_2", "mlp.fc2")):
            if name.endswith(scale):
                layer = name.removesuffix(scale)
                state[f"{layer}{writer}.weight"] *= tensor[:, None]
                state[f"{layer}{writer}.bias"] *= tensor
                state[name] = torch.ones_like(tensor)
    for name, tensor in state.items():
        if "vision_tower" in name and (_WRITES.search(name) or _ADDED.search(name)):
            axis = -1 if name.endswith(("cls_token", "position_embeddings")) else 0
            state[name] = tensor - tensor.mean(axis, keepdim=True)
    return state


def grow(small: State, model: InternVLForConditionalGeneration) -> None:
    """Put a smaller model's weights into a larger one, in place.

    Args:
        small: State of the smaller model: the same kinds of layers, narrower and fewer.
        model: The larger model, with random weights.
    """
    small = centre(small)
    state = model.state_dict()
    old = small["model.multi_modal_projector.linear_2.weight"].shape[0]
    new = state["model.multi_modal_projector.linear_2.weight"].shape[0]
    for name, grown in state.items():
        if name not in small:
            if not _LAYER.search(name):
                raise ValueError(f"{name} is not in the smaller model")
            if _WRITES.search(name) or _ADDED.search(name):
                grown.zero_()
            continue
        source, tensor = small[name], grown
        if "multi_modal_projector" in name and grown.shape[-1] == 4 * new:
            # Pixel shuffle lays four patches side by side.
            tensor = grown.view(*grown.shape[:-1], 4, new)
            source = source.view(*source.shape[:-1], 4, old)
        _place(name, source, tensor)
        if _NORM.search(name):
            tensor[tuple(slice(size) for size in source.shape)] *= math.sqrt(old / new)
    model.load_state_dict(state)


def _place(name: str, source: Tensor, target: Tensor) -> None:
    if _ADDED.search(name) or (source.ndim == 1 and name.endswith("bias")):
        target.zero_()
    if _WRITES.search(name):
        target[:, source.shape[1] :] = 0
        target[source.shape[0] :] = 0
    target[tuple(slice(size) for size in source.shape)] = source
