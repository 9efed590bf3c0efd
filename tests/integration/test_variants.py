"""Shapes and settings of other releases than the goldens, with hand-mapped weights.

The expected logits come from transformers' text models; the expected features from formulas.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from checkpoints import OLDER, original_config, random_model, to_original, write_hf, write_original
from golden import checkpoint_folder
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.vision import encode_image, normalise_on_device
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import CheckpointError
from langchain_internvl.prompting.tokenization import load_tokenizer

IDS = torch.tensor([[5, 900, 17, 17, 300, 42, 8, 1000, 1]])


def load(folder):
    return load_model(read_checkpoint(folder), 1005, LoadOptions(dtype="float32"))


def logits(model, ids=IDS):
    with torch.inference_mode():
        return model(input_ids=ids).logits


def randomised(model):
    torch.manual_seed(2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.tie_weights()
    return model.float().eval()


def written(folder, plain, llm_config, rename=lambda name, tensor: {name: tensor}):
    """A checkpoint with the language model `plain`, and the vision tower of the tiny Qwen2 one."""
    width = plain.config.hidden_size
    config = original_config()
    config["llm_config"] = llm_config
    source = to_original(random_model(original_config("qwen2"), dtype=torch.float32).state_dict())
    tensors = {name: one for name, one in source.items() if not name.startswith("language_model")}
    tensors |= {
        "mlp1.1.weight": torch.randn(width, 256),
        "mlp1.1.bias": torch.randn(width),
        "mlp1.3.weight": torch.randn(width, width),
        "mlp1.3.bias": torch.randn(width),
    }
    for name, tensor in plain.state_dict().items():
        tensors |= {
            f"language_model.{key}": one.clone().contiguous()
            for key, one in rename(name, tensor).items()
        }
    return write_original(folder, config, tensors)


def internlm2_names(plain, head_size):
    """From Llama's names to InternLM2's."""
    state = plain.state_dict()
    parts = {
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "embed_tokens": "tok_embeddings",
        "lm_head": "output",
    }

    def rename(name, tensor):
        if "k_proj" in name or "v_proj" in name:
            return {}
        if "q_proj" in name:
            key, value = (state[name.replace("q_proj", one)] for one in ("k_proj", "v_proj"))
            groups = len(key) // head_size
            rows = zip(*(one.chunk(groups) for one in (tensor, key, value)), strict=True)
            fused = torch.cat([torch.cat(group) for group in rows])
            return {name.replace("self_attn.q_proj", "attention.wqkv"): fused}
        for native, original in parts.items():
            name = name.replace(native, original)
        return {name: tensor}

    return rename


@pytest.mark.parametrize(
    ("heads", "groups", "head_size"),
    [(8, 8, 8), (6, 2, 8), (6, 1, 16), (4, 4, 16)],
    ids=["1.8B: as many", "20B: three each", "one group", "7B without the key"],
)
def test_internlm2_of_other_shapes(heads, groups, head_size, tmp_path):
    settings = {
        "vocab_size": 1033, "hidden_size": heads * head_size, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": groups,
        "rms_norm_eps": 1e-5, "rope_theta": 1e6, "max_position_embeddings": 256,
    }  # fmt: skip
    plain = randomised(LlamaForCausalLM(LlamaConfig(**settings)))
    llm = {
        **settings,
        "model_type": "internlm2",
        "bias": False,
        "rope_scaling": None,
        "torch_dtype": "bfloat16",
    }
    if groups == heads:
        del llm["num_key_value_heads"]
    folder = written(tmp_path, plain, llm, internlm2_names(plain, head_size))
    assert torch.allclose(logits(load(folder)), logits(plain), atol=1e-4)
    assert read_checkpoint(folder).stored_dtype == "bfloat16"


@pytest.mark.parametrize("place", ["rope_theta", "rope_parameters"])
def test_llama_without_optional_keys(place, tmp_path):
    """As Yi's and LLaMA 2's: no `num_key_value_heads`, no `head_dim`, no `rope_scaling`."""
    settings = {
        "vocab_size": 1012, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 5e6,
    }  # fmt: skip
    plain = randomised(LlamaForCausalLM(LlamaConfig(**settings)))
    llm = {**settings, "model_type": "llama"}
    if place == "rope_parameters":
        llm["rope_parameters"] = {"rope_type": "default", "rope_theta": llm.pop("rope_theta")}
    assert torch.allclose(logits(load(written(tmp_path, plain, llm))), logits(plain), atol=1e-4)


@pytest.mark.parametrize("lm_head", ["absent", "equal", "another"])
def test_qwen2_with_tied_weights(lm_head, tmp_path):
    """The original has one parameter for both; which of two would be in it is not defined."""
    settings = {
        "vocab_size": 1012, "hidden_size": 56, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 7, "num_key_value_heads": 1, "rope_theta": 1e6,
        "tie_word_embeddings": True, "sliding_window": 4, "max_window_layers": 1,
        "use_sliding_window": False,
    }  # fmt: skip
    plain = randomised(Qwen2ForCausalLM(Qwen2Config(**settings)))

    def rename(name, tensor):
        if name != "lm_head.weight" or lm_head == "equal":
            return {name: tensor}
        return {} if lm_head == "absent" else {name: tensor + 1}

    folder = written(tmp_path, plain, {**settings, "model_type": "qwen2"}, rename)
    if lm_head == "another":
        with pytest.raises(CheckpointError, match="tie_word_embeddings"):
            load(folder)
        return
    assert torch.allclose(logits(load(folder)), logits(plain), atol=1e-4)


@pytest.mark.parametrize("kind", ["su", "longrope"])
@pytest.mark.parametrize("length", [9, 40])
def test_phi3_on_both_sides_of_its_first_length(kind, length, tmp_path):
    settings = {
        "vocab_size": 1012, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "rope_theta": 10_000.0,
        "max_position_embeddings": 128, "original_max_position_embeddings": 32,
        "pad_token_id": 0, "sliding_window": 2047,
    }  # fmt: skip
    factors = {"short_factor": [1.0] * 8, "long_factor": [1.0 + n for n in range(8)]}
    plain = randomised(
        Phi3ForCausalLM(Phi3Config(**settings, rope_scaling={**factors, "type": "longrope"}))
    )
    llm = {**settings, "rope_scaling": {**factors, "type": kind}, "model_type": "phi3"}
    model = load(written(tmp_path, plain, llm))
    ids = torch.arange(10, 10 + length)[None]
    assert torch.allclose(logits(model, ids), logits(plain, ids), atol=1e-4)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_sixteen_neighbours_become_one_feature(version, tmp_path):
    """`downsample_ratio` 0.25; "v2" swaps height and width back, "v1" does not."""
    config = original_config("qwen2", downsample_ratio=0.25, ps_version=version)
    tensors = to_original(random_model(config, dtype=torch.float32).state_dict())
    model = load(write_original(tmp_path, config, tensors))
    assert read_checkpoint(tmp_path).tokens_per_tile == 64
    tiles = np.random.default_rng(0).integers(0, 256, (1, 448, 448, 3), np.uint8)
    with torch.inference_mode():
        pixels = normalise_on_device(tiles, torch.device("cpu"))
        hidden = model.model.vision_tower(pixels).last_hidden_state[0, 1:].view(32, 32, -1)
        blocks = [
            torch.cat([hidden[4 * row + down, 4 * column + right]
                       for down in range(4) for right in range(4)])
            for row in range(8) for column in range(8)
        ]  # fmt: skip
        grid = torch.stack(blocks).view(8, 8, -1)
        grid = grid.transpose(0, 1) if version == "v1" else grid
        expected = model.model.multi_modal_projector(grid.flatten(0, 1)[None])[0]
        assert torch.allclose(encode_image(model, tiles), expected, atol=1e-4)


def test_the_scale_of_pixels_of_an_hf_checkpoint(tmp_path):
    """As its image processor scales them in transformers, not always by ImageNet's constants."""
    source = random_model(original_config("qwen2"), dtype=torch.float32)
    mean, std = [0.5, 0.4, 0.3], [0.5, 0.25, 0.125]
    model = load(write_hf(tmp_path, source, image_mean=mean, image_std=std))
    tiles = np.random.default_rng(0).integers(0, 256, (2, 448, 448, 3), np.uint8)
    pixels = torch.from_numpy((tiles / 255 - mean) / std).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = source.get_image_features(pixels).pooler_output.flatten(0, 1)
        assert torch.allclose(encode_image(model, tiles), expected, atol=1e-3)


def test_hf_names_before_transformers_5(tmp_path):
    """As transformers 4.52 saved them."""
    source = random_model(original_config("qwen2"))
    write_hf(tmp_path, source)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    for new, old in OLDER.items():
        tensors = {
            old + name.removeprefix(new) if name.startswith(new) else name: one
            for name, one in tensors.items()
        }
    save_file(tensors, file, {"format": "pt"})
    loaded = load_model(read_checkpoint(tmp_path), 1005, LoadOptions()).state_dict()
    assert all(torch.equal(loaded[name], one) for name, one in source.state_dict().items())


@pytest.mark.parametrize("name", ["qwen2", "internlm2", "phi3", "llama"])
def test_slow_and_fast_tokenizer_files_agree(name, tmp_path):
    """`tokenizer.json` alone, and the older files alone (with `added_tokens.json`)."""
    older = load_tokenizer(checkpoint_folder(name))
    older.save(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    for file in ("tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json"):
        (tmp_path / file).unlink(missing_ok=True)
    newer = load_tokenizer(tmp_path)
    for text in ("Hello  world,\n\tEin Text, 一段文字. 🙂", " leading", "a<b>c</s>", ""):
        assert newer.encode_text(text) == older.encode_text(text)
    assert {one.content: one.id for one in newer.added_tokens} == {
        one.content: one.id for one in older.added_tokens
    }


def test_neither_generation_config_nor_preprocessor(tmp_path):
    shutil.copytree(checkpoint_folder("qwen2"), tmp_path, dirs_exist_ok=True)
    for file in ("generation_config.json", "preprocessor_config.json", "special_tokens_map.json"):
        (tmp_path / file).unlink()
    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.generation, checkpoint.eos_ids) == ({}, ())
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    del config["torch_dtype"]
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert read_checkpoint(tmp_path).stored_dtype == config["llm_config"]["torch_dtype"]
    reference = AutoTokenizer.from_pretrained(
        checkpoint_folder("qwen2"), local_files_only=True, config=LlamaConfig()
    )
    assert load_tokenizer(tmp_path).encode_text("Some words.") == reference("Some words.").input_ids
