"""Weights, settings and options that make no model are refused with a typed error."""

import json

import pytest
import torch
from checkpoints import original_config, random_model, to_original, write_original
from golden import checkpoint_folder
from safetensors.torch import load_file

from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import CheckpointError, CheckpointNotFoundError, RequestError


def load(folder, **options):
    return load_model(read_checkpoint(folder), 1005, LoadOptions(**options))


def test_missing_and_unknown_tensors_are_refused(tmp_path):
    config = original_config()
    tensors = to_original(random_model(config).state_dict())
    removed = tensors.pop("mlp1.1.weight")
    with pytest.raises(CheckpointError, match=r"1 tensors missing \(.*linear_1"):
        load(write_original(tmp_path / "missing", config, tensors))
    tensors |= {"mlp1.1.weight": removed, "mlp1.9.weight": removed.clone()}
    with pytest.raises(CheckpointError, match="1 tensors unknown"):
        load(write_original(tmp_path / "unknown", config, tensors))


def test_tensors_of_another_shape_are_refused(tmp_path):
    config = original_config()
    tensors = to_original(random_model(config).state_dict())
    tensors["mlp1.1.weight"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError):
        load(write_original(tmp_path, config, tensors))


def test_missing_and_damaged_weights_are_refused(tmp_path):
    config = original_config()
    folder = write_original(tmp_path, config, {"a": torch.zeros(1)})
    (folder / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointNotFoundError, match="no weights"):
        load(folder)


@pytest.mark.parametrize(
    "index",
    [[], {}, {"weight_map": None}, {"metadata": {}}, {"metadata": {}, "weight_map": {"a": 1}}],
)
def test_a_damaged_index_is_refused(index, tmp_path):
    folder = write_original(tmp_path, original_config(), {"a": torch.zeros(1)})
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(CheckpointError):
        load(folder)


@pytest.mark.parametrize(
    "language",
    [
        {"hidden_size": "64"},
        {"num_attention_heads": None},
        {"rope_scaling": {"type": "dynamic"}},
        {"rope_scaling": {"type": "spiral", "factor": 2.0}},
        {"rope_scaling": "dynamic"},
        {"rope_theta": "1e6"},
        {"hidden_act": "none"},
    ],
)
def test_settings_that_make_no_model_are_refused(language, tmp_path):
    tensors = to_original(random_model(original_config()).state_dict())
    config = original_config(llm_config=language)
    with pytest.raises(CheckpointError):
        load(write_original(tmp_path, config, tensors))


def test_a_shard_that_is_missing_is_refused(tmp_path):
    tensors = load_file(checkpoint_folder("qwen2") / "model.safetensors")
    config = json.loads((checkpoint_folder("qwen2") / "config.json").read_text("utf-8"))
    folder = write_original(tmp_path, config, tensors, shards=3)
    next(folder.glob("*00002*")).unlink()
    with pytest.raises(CheckpointError):
        load(folder)


def test_unknown_dtype():
    with pytest.raises(RequestError, match="float8"):
        load(checkpoint_folder("qwen2"), dtype="float8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="what there is without a GPU")
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"device_map": "cuda"}, CheckpointError, "CUDA"),
        ({"device_map": "nowhere"}, CheckpointError, "nowhere"),
        (
            {"attn_implementation": "flash_attention_2"},
            ImportError,
            r"langchain-internvl\[flash-attn",
        ),
        ({"attn_implementation": "none"}, CheckpointError, "none"),
    ],
)
def test_what_this_machine_cannot_do_is_said(options, kind, words):
    with pytest.raises(kind, match=words):
        load(checkpoint_folder("qwen2"), **options)
