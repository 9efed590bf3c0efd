"""Mixtures of experts over several GPUs."""

from collections import Counter

import pytest
import torch
from accelerate import init_empty_weights
from accelerate.utils import check_device_map
from checkpoints import original_config, random_model, to_original, write_original
from transformers import InternVLForConditionalGeneration

from langchain_internvl.backends.transformers.config import translate_config
from langchain_internvl.backends.transformers.experts import (
    MixtureSizes,
    mixture_sizes,
    split_mixture,
)
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint

GIB = 2**30
EXPERTS = {
    "qwen3_moe": {
        "moe_intermediate_size": 48, "num_experts": 6, "num_experts_per_tok": 2,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    },
    "gpt_oss": {
        "num_local_experts": 4, "num_experts_per_tok": 2, "attention_bias": True,
        "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"],
    },
}  # fmt: skip

# As published: the language model of Qwen3-235B-A22B, and InternViT-6B.
TEXT = {
    "model_type": "qwen3_moe", "hidden_size": 4096, "num_hidden_layers": 94, "num_experts": 128,
    "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151_936,
    "intermediate_size": 12_288, "moe_intermediate_size": 1536,
}  # fmt: skip
VISION = {"hidden_size": 3200, "num_hidden_layers": 45, "intermediate_size": 12_800}


def used(sizes, placement, gpus):
    """Bytes of each GPU."""
    taken = Counter({0: sizes.first})
    for layer, (rest, experts) in enumerate(zip(sizes.rest, sizes.experts, strict=True)):
        name = f"model.language_model.layers.{layer}"
        taken[placement.get(name, placement.get(f"{name}.self_attn"))] += rest
        taken[placement.get(name, placement.get(f"{name}.mlp.experts"))] += experts
    return [taken[gpu] for gpu in range(gpus)]


def split_layers(placement):
    return [name for name in placement if name.endswith(".mlp.experts")]


def test_sizes_of_241b_a28b():
    sizes = mixture_sizes(TEXT, VISION, 2)
    total = (sizes.first + sum(sizes.rest) + sum(sizes.experts)) / 2
    assert total == pytest.approx(241e9, rel=0.01)
    assert sizes.experts[0] == 2 * 3 * 4096 * 1536 * 128
    assert mixture_sizes({"model_type": "qwen3"}, {}, 2) is None


@pytest.mark.parametrize(
    ("room", "splits"),
    [
        ([141 * GIB] * 8, False),
        ([68 * GIB] * 8, False),  # of 80 GB
        ([78_600_000_000, *[59_610_000_000] * 7], True),  # 90 whole layers of 94 would fit
    ],
)
def test_241b_a28b_on_8_gpus(room, splits):
    sizes = mixture_sizes(TEXT, VISION, 2)
    placement = split_mixture(sizes, room)
    taken = used(sizes, placement, 8)
    assert all(one <= most for one, most in zip(taken, room, strict=True))
    assert sum(taken) == sizes.first + sum(sizes.rest) + sum(sizes.experts)
    assert min(taken) > 0.5 * max(taken)
    assert bool(split_layers(placement)) is splits


def test_a_layer_that_does_not_fit_leaves_its_experts_to_the_next_gpu():
    sizes = MixtureSizes("gate", first=10, rest=(10, 10), experts=(60, 60))
    assert not split_layers(split_mixture(sizes, [100, 70]))  # as a whole it fits on the next
    placement = split_mixture(sizes, [100, 60])
    assert used(sizes, placement, 2) == [90, 60]
    layer = "model.language_model.layers"
    assert placement[f"{layer}.0"] == 0
    assert placement[f"{layer}.1.self_attn"] == placement[f"{layer}.1.mlp.gate"] == 0
    assert placement[f"{layer}.1.mlp.experts"] == 1
    assert f"{layer}.1" not in placement


def test_what_does_not_fit_has_no_placement():
    sizes = MixtureSizes("gate", first=10, rest=(10,), experts=(60,))
    assert split_mixture(sizes, [79]) is None
    assert split_mixture(sizes, [5, 500]) is None
    assert split_mixture(sizes, [80]) is not None


def test_dense_layers_are_whole():
    text = TEXT | {"mlp_only_layers": [1], "num_hidden_layers": 3}
    sizes = mixture_sizes(text, VISION, 2)
    assert [bool(one) for one in sizes.experts] == [True, False, True]
    assert sizes.rest[1] == sizes.rest[0] + 2 * 4096 * (3 * 12_288 - 128)


def test_only_every_second_layer_has_experts():
    text = TEXT | {"decoder_sparse_step": 2, "mlp_only_layers": [3], "num_hidden_layers": 6}
    sizes = mixture_sizes(text, VISION, 2)
    assert [bool(one) for one in sizes.experts] == [False, True, False, False, False, True]
    assert sizes.rest[0] == sizes.rest[3] == sizes.rest[1] + 2 * 4096 * (3 * 12_288 - 128)


@pytest.mark.parametrize("kind", [*EXPERTS, "every second layer"])
def test_every_weight_has_a_place(kind):
    changes = EXPERTS.get(kind) or {
        **EXPERTS["qwen3_moe"], "decoder_sparse_step": 2, "num_hidden_layers": 4,
    }  # fmt: skip
    config = original_config(kind if kind in EXPERTS else "qwen3_moe", llm_config=changes)
    sizes = mixture_sizes(config["llm_config"], config["vision_config"], 2)
    most = max(sizes.experts)
    room = [sizes.first + sum(sizes.rest[:-1]), most + sum(sizes.rest), most]
    placement = split_mixture(sizes, room)
    assert len(split_layers(placement)) == 2
    native = translate_config(config, image_token_id=1005, image_seq_length=256)
    with init_empty_weights():
        model = InternVLForConditionalGeneration(native)
    check_device_map(model, placement)


@pytest.mark.parametrize("kind", EXPERTS)
def test_a_layer_whose_experts_are_elsewhere_computes_the_same(kind, tmp_path):
    """On the disk, for want of a second GPU: the same hooks move what they take and give."""
    config = original_config(kind, llm_config=EXPERTS[kind])
    source = random_model(config, dtype=torch.float32)
    source.set_attn_implementation("eager")
    write_original(tmp_path, config, to_original(source.state_dict()))
    sizes = mixture_sizes(config["llm_config"], config["vision_config"], 4)
    room = [sizes.first + sizes.rest[0], sizes.experts[0] + sum(sizes.rest), sizes.experts[1]]
    placement = split_mixture(sizes, room)
    apart = set(split_layers(placement))
    device_map = {name: "disk" if name in apart else "cpu" for name in placement}
    options = LoadOptions(dtype="float32", device_map=device_map, attn_implementation="eager")
    model = load_model(read_checkpoint(tmp_path), 1005, options)
    experts = [module for name, module in model.named_modules() if name in apart]
    assert [one._hf_hook.io_same_device for one in experts] == [True, True]
    ids = torch.tensor([[5, 900, 17, 17, 300]])
    with torch.inference_mode():
        assert torch.allclose(model(input_ids=ids).logits, source(input_ids=ids).logits, atol=1e-4)
