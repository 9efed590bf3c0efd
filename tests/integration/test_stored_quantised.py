"""Checkpoints that are stored quantised, against float weights that their numbers stand for.

They are packed here, independently of the packages that run them; without these packages they are
refused.
"""

import json
import shutil
import sys

import pytest
import torch
from checkpoints import OLDER, original_config, random_model, write_hf
from golden import checkpoint_folder
from int4 import pack_awq, pack_gptq, pack_integers
from safetensors.torch import load_file, save_file

from langchain_internvl.backends.transformers.config import translate_config
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.stored_weights import native_quantization
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import RequestError, UnsupportedCheckpointError
from langchain_internvl.model_files.refusals import header_names

GROUP = 32
PACKED = {
    "awq": (pack_awq, {"bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}),
    "gptq": (pack_gptq, {"bits": 4, "group_size": GROUP, "desc_act": False, "sym": False}),
    "compressed-tensors": (
        pack_integers,
        {
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "ignore": ["re:vision_model.*", "re:mlp1.*", "language_model.lm_head"],
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": {
                        "num_bits": 4, "type": "int", "symmetric": True, "strategy": "group",
                        "group_size": GROUP,
                    },
                }
            },
        },
    ),
}  # fmt: skip
NEEDS = {"awq": "gptqmodel", "gptq": "gptqmodel", "compressed-tensors": "compressed_tensors"}


def write_quantised(folder, name, method, *, kept=("no layer",), place="quantization_config"):
    """A tiny checkpoint twice: quantised, and with the float weights that are meant."""
    pack, settings = PACKED[method]
    quantised, meant = {}, {}
    for key, stored in load_file(checkpoint_folder(name) / "model.safetensors").items():
        tensor = stored.to(torch.float16)
        is_layer = ".layers." in key and key.startswith("language_model") and tensor.dim() == 2
        if not is_layer or any(one in key for one in kept):
            quantised[key] = tensor
            meant[key] = tensor.float()
            continue
        parts, meant[key] = pack(tensor, GROUP)
        quantised |= {key.removesuffix("weight") + last: part for last, part in parts.items()}
    for kind, tensors in (("quantised", quantised), ("meant", meant)):
        (folder / kind).mkdir(parents=True)
        for file in checkpoint_folder(name).iterdir():
            if file.suffix != ".safetensors":
                shutil.copy(file, folder / kind)
        save_file(tensors, folder / kind / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "quantised" / "config.json").read_text("utf-8"))
    section = config["llm_config"] if place == "llm_config" else config
    section["quantization_config"] = {"quant_method": method, **settings}
    (folder / "quantised" / "config.json").write_text(json.dumps(config), "utf-8")
    return folder / "quantised", folder / "meant"


@pytest.mark.parametrize("place", ["llm_config", "quantization_config"])
@pytest.mark.parametrize("name", ["qwen2", "internlm2", "phi3"])
@pytest.mark.parametrize("method", PACKED)
def test_logits_are_those_of_the_meant_weights(method, name, place, tmp_path):
    pytest.importorskip(NEEDS[method])
    if (method, name) == ("compressed-tensors", "internlm2"):
        folder, _ = write_quantised(tmp_path, name, method, place=place)
        with pytest.raises(UnsupportedCheckpointError, match="wqkv"):
            load_model(read_checkpoint(folder), 5)
        return
    quantised, meant = write_quantised(tmp_path, name, method, place=place)
    logits = []
    for folder in (quantised, meant):
        model = load_model(read_checkpoint(folder), 5, LoadOptions(dtype="float32"))
        with torch.inference_mode():
            logits.append(model(input_ids=torch.arange(10, 40)[None]).logits.float())
    scale = logits[1].abs().max()
    assert (logits[0] - logits[1]).abs().max() < 0.02 * scale
    assert (logits[0].argmax(-1) == logits[1].argmax(-1)).float().mean() > 0.9


@pytest.mark.parametrize("are_old", [False, True])
def test_hf_names(are_old, tmp_path):
    """As llm-compressor writes them from transformers' own class, before and since version 5."""
    pytest.importorskip("compressed_tensors")
    source = random_model(original_config("qwen3"), dtype=torch.float32)
    folder = write_hf(tmp_path, source)
    tensors, meant = {}, {}
    for key, tensor in source.state_dict().items():
        is_layer = key.startswith("model.language_model.layers.") and tensor.dim() == 2
        parts, meant[key] = pack_integers(tensor, GROUP) if is_layer else ({}, tensor)
        name = key
        if are_old:
            for new, old in OLDER.items():
                name = old + key.removeprefix(new) if key.startswith(new) else name
        tensors |= {name.removesuffix("weight") + last: part for last, part in parts.items()}
        tensors |= {} if is_layer else {name: tensor.clone()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    _, settings = PACKED["compressed-tensors"]
    config["quantization_config"] = {
        "quant_method": "compressed-tensors", **settings,
        "ignore": ["re:.*vision_tower.*", "re:.*multi_modal_projector.*", "lm_head"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    loaded = load_model(read_checkpoint(folder), 1005, LoadOptions(dtype="float32")).state_dict()
    assert loaded.keys() == meant.keys()
    for key, tensor in meant.items():
        assert torch.allclose(loaded[key], tensor, atol=1e-6), key


def arguments(folder):
    checkpoint = read_checkpoint(folder, runs_here=False)
    config = translate_config(checkpoint.config, image_token_id=5, image_seq_length=256)
    names = header_names([folder / "model.safetensors"])
    return native_quantization(checkpoint, names, config.get_text_config())


def test_what_the_quantisers_are_told(tmp_path):
    """The modules by native names, from the names of the tensors."""
    folder, _ = write_quantised(
        tmp_path / "a", "internlm2", "awq", kept=["layers.1.feed_forward.w2"]
    )
    told = arguments(folder)
    assert (told["bits"], told["group_size"], told["quant_method"]) == (4, GROUP, "awq")
    everywhere_else, *kept = told["modules_to_not_convert"]
    assert everywhere_else == r"(?!model\.language_model\.layers\.).*"
    assert r"model\.language_model\.layers\.1\.mlp\.down_proj" in kept
    assert not [one for one in kept if "q_proj" in one or "layers\\.0\\.mlp" in one]
    folder, _ = write_quantised(tmp_path / "b", "internlm2", "gptq", place="llm_config")
    told = arguments(folder)
    assert told["block_name_to_quantize"] == "model.language_model.layers"
    assert told["modules_in_block_to_quantize"] == [
        ["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.k_proj", "self_attn.o_proj",
         "self_attn.q_proj", "self_attn.v_proj"]
    ]  # fmt: skip
    folder, meant = write_quantised(tmp_path / "c", "qwen2", "compressed-tensors")
    assert arguments(folder)["dequantize"]
    assert arguments(meant) is None


def test_other_modules_than_layers_are_refused(tmp_path):
    folder, _ = write_quantised(tmp_path, "qwen2", "awq")
    tensors = load_file(folder / "model.safetensors")
    tensors["language_model.lm_head.qweight"] = torch.zeros(8, 8, dtype=torch.int32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedCheckpointError, match=r"but lm_head is"):
        arguments(folder)


@pytest.mark.parametrize("options", [{"quantization": "8bit"}, {"adapter": "x"}])
def test_what_does_not_go_together(options, tmp_path):
    folder, _ = write_quantised(tmp_path, "qwen2", "awq")
    checkpoint = read_checkpoint(folder, runs_here=False)
    with pytest.raises(RequestError, match=r"stored quantised \(awq\)"):
        load_model(checkpoint, 5, LoadOptions(**options))


@pytest.mark.parametrize(
    ("method", "missing"),
    [("awq", "gptqmodel"), ("gptq", "optimum"), ("compressed-tensors", "compressed_tensors")],
)
def test_a_missing_package_is_named_with_its_extra(method, missing, tmp_path, monkeypatch):
    folder, _ = write_quantised(tmp_path, "qwen2", method)
    monkeypatch.setitem(sys.modules, missing, None)
    extra = "compressed-tensors" if method == "compressed-tensors" else "gptq"
    with pytest.raises(UnsupportedCheckpointError, match=rf"{missing}.*internvl\[{extra}\]"):
        read_checkpoint(folder)
