"""Which device gets what."""

import math
from collections import Counter

import pytest
import torch
from accelerate import init_empty_weights
from accelerate.utils import check_device_map
from checkpoints import original_config
from transformers import InternVLForConditionalGeneration

from langchain_internvl.backends.transformers.config import translate_config
from langchain_internvl.backends.transformers.experts import MixtureSizes, split_mixture
from langchain_internvl.backends.transformers.placement import (
    can_use_flash_attention,
    place,
    split_model,
)

# Layers of the language model, by size of InternVL2 (quick start).
LAYERS = {"1B": 24, "2B": 24, "4B": 32, "8B": 32, "26B": 48, "40B": 60, "76B": 80}


def gpu_of_layer(placement, layer):
    return placement[f"model.language_model.layers.{layer}"]


@pytest.mark.parametrize("gpus", range(1, 9))
@pytest.mark.parametrize("layers", sorted(set(LAYERS.values())))
def test_the_quick_starts_placement(layers, gpus):
    """The first GPU counts as half a GPU, and the last layer comes back to it."""
    placement = split_model(layers, gpus)
    per_gpu = math.ceil(layers / (gpus - 0.5))
    for layer in range(layers - 1):
        after_first = layer - math.ceil(per_gpu / 2)
        expected = 0 if after_first < 0 else 1 + after_first // per_gpu
        assert gpu_of_layer(placement, layer) == expected
    assert gpu_of_layer(placement, layers - 1) == 0
    for part in (
        "model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens",
        "model.language_model.norm", "model.language_model.rotary_emb", "lm_head",
    ):  # fmt: skip
        assert placement[part] == 0


@pytest.mark.parametrize(
    ("size", "gpus", "expected"),
    [
        ("8B", 1, [32]),
        ("8B", 2, [12, 20]),
        ("8B", 4, [6, 10, 10, 6]),
        ("26B", 2, [17, 31]),
        ("40B", 4, [10, 18, 18, 14]),
        ("76B", 8, [7, 11, 11, 11, 11, 11, 11, 7]),
    ],
)
def test_layers_of_each_gpu(size, gpus, expected):
    placement = split_model(LAYERS[size], gpus)
    counts = Counter(gpu_of_layer(placement, layer) for layer in range(LAYERS[size]))
    assert [counts[gpu] for gpu in range(gpus)] == expected


@pytest.mark.parametrize("layers", [2, 24])
def test_every_weight_has_a_place(layers):
    config = translate_config(
        original_config(llm_config={"num_hidden_layers": layers}),
        image_token_id=1005,
        image_seq_length=256,
    )
    with init_empty_weights():
        model = InternVLForConditionalGeneration(config)
    check_device_map(model, split_model(layers, 3))


def test_what_auto_means():
    assert place("auto", 24, []) is None
    assert place("auto", 24, [100]) == "auto"
    assert place("auto", 24, [100, 100]) == split_model(24, 2)
    for asked in ("cuda:1", {"": 0}, None, "balanced"):
        assert place(asked, 24, [100, 100]) == asked


def test_auto_places_a_mixture_by_its_sizes():
    sizes = MixtureSizes("gate", first=10, rest=(10, 10), experts=(60, 60))
    assert place("auto", 2, [200, 200], sizes) == split_mixture(sizes, [170, 170])
    assert place("auto", 2, [60, 60], sizes) == split_model(2, 2)  # it fits nowhere
    assert place("auto", 2, [], sizes) is None
    assert place("auto", 2, [200], sizes) == "auto"
    assert place("cuda:1", 2, [200, 200], sizes) == "cuda:1"


FLASH = {
    "dtype": "bfloat16", "device_map": "auto", "capabilities": [(8, 0), (9, 0)],
    "is_installed": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ({}, True),
        ({"dtype": "float16"}, True),
        ({"device_map": split_model(24, 2)}, True),
        ({"device_map": "cuda:0"}, True),
        ({"dtype": "float32"}, False),
        ({"is_installed": False}, False),
        ({"capabilities": []}, False),
        ({"capabilities": [(9, 0), (7, 5)]}, False),
        ({"device_map": "cpu"}, False),
        ({"device_map": None}, False),
        ({"device_map": {"a": 0, "b": "disk"}}, False),
        ({"device_map": {"": torch.device("cpu")}}, False),
    ],
)
def test_where_flash_attention_can_run(change, runs):
    assert can_use_flash_attention(**{**FLASH, **change}) is runs
