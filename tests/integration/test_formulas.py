"""What no recording of the reference covers, against plain native models and formulas.

Nothing here compares the package with itself: the expected values come from transformers' text
models, whose weights are named here, or from steps that are written out.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from checkpoints import original_config, random_model, to_original, write_original
from golden import checkpoint_folder
from safetensors.torch import load_file, save_file
from support import decode
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.config import translate_config
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.vision import encode_image, normalise_on_device
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer

IDS = torch.tensor([[5, 900, 17, 17, 300, 42, 8, 1000, 1]])
TILES = np.random.default_rng(0).integers(0, 256, (2, 448, 448, 3), np.uint8)


def load(folder):
    return load_model(read_checkpoint(folder), 1005, LoadOptions(dtype="float32"))


def logits(model, **inputs):
    with torch.inference_mode():
        return model(input_ids=IDS, **inputs).logits


@pytest.mark.parametrize("tied", [False, True])
def test_qwen3(tied, tmp_path):
    config = original_config("qwen3", llm_config={"tie_word_embeddings": tied})
    tensors = to_original(random_model(config, dtype=torch.float32).state_dict())
    if tied:
        del tensors["language_model.lm_head.weight"]
    ours = load(write_original(tmp_path, config, tensors))
    settings = {key: value for key, value in config["llm_config"].items() if key != "torch_dtype"}
    plain = Qwen3ForCausalLM(Qwen3Config(**settings)).float().eval()
    prefix = "language_model."
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()
           if name.startswith(prefix)}  # fmt: skip
    missing, unexpected = plain.load_state_dict(own, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"] if tied else [], [])
    plain.tie_weights()
    assert torch.allclose(logits(ours), logits(plain), atol=1e-4)


def fuse(query, key, value, head_size):
    """InternLM2's `wqkv`: for each key head its queries, its key, its value."""
    groups = key.shape[0] // head_size
    per_group = query.shape[0] // groups
    rows = []
    for group in range(groups):
        rows += [
            query[group * per_group : (group + 1) * per_group],
            key[group * head_size : (group + 1) * head_size],
            value[group * head_size : (group + 1) * head_size],
        ]
    return torch.cat(rows)


def plain_llama(**changes):
    """A text model of transformers' with random weights, of the size of the tiny InternLM2."""
    torch.manual_seed(1)
    plain = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=1033, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5,
            rope_theta=10_000.0, **{"max_position_embeddings": 2048, **changes},
        )
    ).eval()  # fmt: skip
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return plain


def write_internlm2(folder, plain, **llm_config):
    """The tiny InternLM2 with the weights of a plain model, by their original names."""
    shutil.copytree(checkpoint_folder("internlm2"), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["llm_config"] |= {"rope_theta": 10_000.0, **llm_config}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    file = folder / "model.safetensors"
    tensors = {name: one for name, one in load_file(file).items()
               if not name.startswith("language_model.")}  # fmt: skip
    source = plain.state_dict()
    names = {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
             "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1",
             "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2"}  # fmt: skip
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        for native, original in names.items():
            for kind in ("weight", "bias"):
                if f"{prefix}{native}.{kind}" in source:
                    tensors[f"language_model.{prefix}{original}.{kind}"] = source[
                        f"{prefix}{native}.{kind}"
                    ]
        for kind in ("weight", "bias") if llm_config["bias"] else ("weight",):
            parts = (source[f"{prefix}self_attn.{one}_proj.{kind}"] for one in "qkv")
            tensors[f"language_model.{prefix}attention.wqkv.{kind}"] = fuse(*parts, 16)
    tensors["language_model.model.tok_embeddings.weight"] = source["model.embed_tokens.weight"]
    tensors["language_model.model.norm.weight"] = source["model.norm.weight"]
    tensors["language_model.output.weight"] = source["lm_head.weight"]
    save_file({name: one.clone() for name, one in tensors.items()}, file, {"format": "pt"})
    return folder


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("factor", [None, 4.0])
def test_internlm2_with_bias_and_linear_rope(bias, factor, tmp_path):
    """Linear rope: positions divided by the factor (`modeling_internlm2.py`)."""
    plain = plain_llama(attention_bias=bias)
    rope = {"type": "linear", "factor": factor} if factor else None
    write_internlm2(tmp_path, plain, bias=bias, rope_scaling=rope)
    places = torch.arange(IDS.shape[1])[None] / (factor or 1)
    expected = logits(plain, position_ids=places)
    assert torch.allclose(logits(load(tmp_path)), expected, atol=1e-4)
    if factor:
        assert not torch.allclose(logits(plain), expected, atol=1e-2)


LIMIT, FACTOR = 24, 2.0


def greedy(plain, prompt, count):
    """A reply of a plain model, one token at a time, and the log probability of each token."""
    reply, scores, cache = [], [], None
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        for _ in range(count):
            out = plain(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            likely = out.logits[0, -1].float().log_softmax(-1)
            reply.append(int(likely.argmax()))
            scores.append(float(likely.max()))
            ids = torch.tensor([reply[-1:]])
    return reply, scores


def test_dynamic_rope_that_crosses_its_limit_while_decoding(tmp_path):
    """Each token past the limit has a base of its own, and keys made before stay as they were.

    Compared with transformers' text model of the same weights, decoded by itself; the base is
    checked against the formula of `modeling_internlm2.py`, too.
    """
    rope = {"rope_type": "dynamic", "factor": FACTOR, "rope_theta": 10_000.0}
    plain = plain_llama(max_position_embeddings=LIMIT, rope_parameters=rope)
    write_internlm2(
        tmp_path, plain, bias=False, max_position_embeddings=LIMIT,
        rope_scaling={"type": "dynamic", "factor": FACTOR},
    )  # fmt: skip
    random = np.random.default_rng(3)
    long, short, beyond = (random.integers(5, 900, size).tolist() for size in (16, 5, 30))
    unscaled = plain_llama(max_position_embeddings=LIMIT)
    expected, scores = greedy(plain, long, 24)
    length = len(long) + 23  # of the last step: the last token is not fed
    base = 10_000.0 * (FACTOR * length / LIMIT - (FACTOR - 1)) ** (16 / 14)
    frequencies = base ** -(torch.arange(0, 16, 2) / 16)
    assert torch.allclose(plain.model.rotary_emb.inv_freq, frequencies, rtol=1e-4)
    crossing = LIMIT - len(long)
    without, _ = greedy(unscaled, long, 24)
    assert without[:crossing] == expected[:crossing]  # the test would see a rope left as it was
    assert without != expected

    model = load(tmp_path)
    loop = DecodeLoop(model, load_tokenizer(tmp_path).token_bytes)
    requests = [Request(long, max_tokens=24, top_logprobs=0), Request(short, max_tokens=10),
                Request(beyond, max_tokens=6), Request(long, max_tokens=6)]  # fmt: skip
    alone = [greedy(plain_of(plain), list(one.prompt_ids), one.max_tokens)[0] for one in requests]
    for order in ([0], [0, 1, 2, 3], [3, 2, 1, 0]):
        replies = decode(loop, *(requests[number] for number in order))
        assert [reply for reply, _ in replies] == [alone[number] for number in order]
    handle, first = loop.add(requests[0])
    told = [first.logprob]
    while loop.sequences:
        told += [event.logprob for row, event in loop.step() if row is handle]
    assert told == pytest.approx(scores, abs=1e-3)


def plain_of(plain):
    """The same model, whose rope remembers no longer prompt."""
    fresh = plain_llama(
        max_position_embeddings=LIMIT,
        rope_parameters={"rope_type": "dynamic", "factor": FACTOR, "rope_theta": 10_000.0},
    )
    fresh.load_state_dict(plain.state_dict())
    return fresh


def shuffled(features):
    """Four neighbours become one feature; shape [tiles, side, side, width]."""
    tiles, side, _, width = features.shape
    four = features.view(tiles, side // 2, 2, side // 2, 2, width).permute(0, 1, 3, 2, 4, 5)
    return four.reshape(tiles, (side // 2) ** 2, 4 * width)


@pytest.mark.parametrize("layer", [-1, -2, -3, 0, 1, 2])
def test_select_layer(layer, tmp_path):
    """-1 is the last layer's output; other numbers count the states from the embeddings on."""
    config = original_config("qwen2", select_layer=layer)
    tensors = to_original(random_model(config, dtype=torch.float32).state_dict())
    model = load(write_original(tmp_path, config, tensors))
    tower = model.model.vision_tower
    with torch.inference_mode():
        states = [tower.embeddings(normalise_on_device(TILES, torch.device("cpu")))]
        states = [states[0][0] if isinstance(states[0], tuple) else states[0]]
        for one in tower.encoder.layer:
            state = one(states[-1])
            states.append(state[0] if isinstance(state, tuple) else state)
        assert len(states) == 3
        features = states[layer][:, 1:].unflatten(1, (32, 32))
        expected = model.model.multi_modal_projector(shuffled(features)).flatten(0, 1)
        assert torch.allclose(encode_image(model, TILES), expected, atol=1e-4)


@pytest.mark.parametrize("size", [224, 336, 672])
def test_position_embeddings_are_interpolated(size, tmp_path):
    """`force_image_size` other than the vision tower's: bicubic, `_get_pos_embed` of the original.

    The class token keeps its own.
    """
    config = original_config("qwen2", force_image_size=size)
    tensors = to_original(random_model(config, dtype=torch.float32).state_dict())
    model = load(write_original(tmp_path, config, tensors))
    side = size // 14
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.tiles.tile_size == size
    assert checkpoint.tokens_per_tile == (side // 2) ** 2
    tiles = np.random.default_rng(1).integers(0, 256, (1, size, size, 3), np.uint8)
    tower = model.model.vision_tower
    with torch.inference_mode():
        pixels = normalise_on_device(tiles, torch.device("cpu"))
        weight, bias = (tensors[f"vision_model.embeddings.patch_embedding.{kind}"]
                        for kind in ("weight", "bias"))  # fmt: skip
        patches = functional.conv2d(pixels, weight, bias, stride=14).flatten(2).transpose(1, 2)
        known = tensors["vision_model.embeddings.position_embedding"]
        grid = known[:, 1:].view(1, 32, 32, -1).permute(0, 3, 1, 2)
        grid = functional.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
        places = torch.cat([known[:, :1], grid.flatten(2).transpose(1, 2)], 1)
        state = torch.cat([tensors["vision_model.embeddings.class_embedding"], patches], 1) + places
        for one in tower.encoder.layer:
            state = one(state)
            state = state[0] if isinstance(state, tuple) else state
        features = shuffled(state[:, 1:].unflatten(1, (side, side)))
        expected = model.model.multi_modal_projector(features).flatten(0, 1)
        assert torch.allclose(encode_image(model, tiles), expected, atol=1e-4)


def test_a_key_that_is_left_out_means_the_original_default(tmp_path):
    """RMSNorm, norms of queries and keys, no bias in the vision tower; a bias in InternLM2."""
    shutil.copytree(checkpoint_folder("llama"), tmp_path, dirs_exist_ok=True)
    whole = load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    for name in ("norm_type", "qk_normalization", "qkv_bias", "layer_norm_eps", "num_channels"):
        del config["vision_config"][name]
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with torch.inference_mode():
        assert torch.equal(encode_image(load(tmp_path), TILES), encode_image(whole, TILES))
    native = translate_config(
        {**config, "llm_config": {"model_type": "internlm2"}}, image_token_id=0, image_seq_length=1
    )
    assert native.text_config.attention_bias
    assert not native.text_config.mlp_bias
