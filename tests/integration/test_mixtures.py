"""Mixtures of experts and InternLM3, from original and -hf names."""

import pytest
import torch
from checkpoints import original_config, random_model, to_original, write_hf, write_original
from golden import PHOTOS
from support import FixedBackend, decode, load_loop

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.weights import InternVLChatModel
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.media.tiling import normalise

KINDS = {
    "qwen3_moe": original_config(
        "qwen3_moe",
        llm_config={
            "moe_intermediate_size": 48, "num_experts": 6, "num_experts_per_tok": 2,
            "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
        },
    ),
    "qwen3_moe, one layer dense": original_config(
        "qwen3_moe",
        llm_config={
            "moe_intermediate_size": 48, "num_experts": 6, "num_experts_per_tok": 2,
            "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [1],
        },
    ),
    "gpt_oss": original_config(
        "gpt_oss",
        llm_config={
            "num_local_experts": 4, "num_experts_per_tok": 2, "attention_bias": True,
            "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"],
            "swiglu_limit": 7.0, "rope_theta": 150_000.0,
            "rope_scaling": {
                "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "truncate": False, "original_max_position_embeddings": 4096,
            },
        },
    ),
    "internlm3": original_config(
        "internlm3",
        llm_config={
            "qkv_bias": False, "bias": False,
            "rope_scaling": {"rope_type": "dynamic", "factor": 6.0},
        },
    ),
    "internlm3 with bias": original_config(
        "internlm3", llm_config={"qkv_bias": True, "bias": True}
    ),
}  # fmt: skip


def reply_ids(folder, template="internvl2_5"):
    """What the engine replies to a picture and a question, and the request it got."""
    llm = ChatInternVL(
        model=str(folder), max_tokens=8, default_system=None, temperature=0, max_tiles=1,
        chat_template=template,
    )  # fmt: skip
    backend = FixedBackend()
    llm.model_copy(update={"backend": backend}).invoke(
        [{"role": "user", "content": [image_block(PHOTOS / "chelsea.png"), "What?"]}]
    )
    (request,) = backend.requests
    ((reply, _),) = decode(load_loop(folder, dtype="float32").loop, request)
    return reply, request


def generated(model, request):
    tiles = [getattr(one, "tiles", one) for one in request.tiles]
    tiles = [one() if callable(one) else one for one in tiles]
    with torch.inference_mode():
        ids = model.generate(
            input_ids=torch.tensor([request.prompt_ids]),
            pixel_values=torch.cat([torch.from_numpy(normalise(one)) for one in tiles]),
            do_sample=False, max_new_tokens=8, eos_token_id=None,
        )  # fmt: skip
    return ids[0, len(request.prompt_ids) :].tolist()


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_original_names(kind, shards, tmp_path):
    config = KINDS[kind]
    source = random_model(config)
    tensors = to_original(source.state_dict())
    if kind == "qwen3_moe":
        assert "language_model.model.layers.1.mlp.experts.5.up_proj.weight" in tensors
    write_original(tmp_path, config, tensors, shards=shards)
    model = load_model(read_checkpoint(tmp_path), 1005, LoadOptions())
    assert type(model) is InternVLChatModel
    loaded, wanted = model.state_dict(), source.state_dict()
    assert loaded.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("kind", KINDS)
def test_replies_are_those_of_transformers(kind, tmp_path):
    """A prompt of 256 image tokens and more: longer than gpt-oss's window here."""
    config = KINDS[kind]
    source = random_model(config, dtype=torch.float32)
    source.set_attn_implementation("eager")
    write_original(tmp_path / "original", config, to_original(source.state_dict()))
    write_hf(tmp_path / "hf", source, min_patches=1, max_patches=1)
    reply, request = reply_ids(tmp_path / "original")
    expected = generated(source, request)
    assert reply == expected[: len(reply)]
    assert len(reply) == 8 or reply[-1] in request.stop_ids
    assert reply_ids(tmp_path / "hf")[0] == reply


def test_gpt_oss_attends_eagerly(tmp_path):
    config = KINDS["gpt_oss"]
    write_original(tmp_path, config, to_original(random_model(config).state_dict()))
    model = load_model(read_checkpoint(tmp_path), 1005, LoadOptions())
    assert model.config.text_config._attn_implementation == "eager"
