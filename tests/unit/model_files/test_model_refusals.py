"""Relatives of InternVL are refused by config or tensor names, before anything is downloaded."""

import json
import struct
import sys

import pytest
from checkpoints import original_config
from golden import TINY, checkpoint_folder

from langchain_internvl import nano
from langchain_internvl.checkpoint import open_checkpoint, read_checkpoint
from langchain_internvl.errors import CheckpointError, UnsupportedCheckpointError
from langchain_internvl.model_files import hub
from langchain_internvl.model_files.refusals import header_names, index_names

PLAIN = [
    "vision_model.embeddings.class_embedding", "mlp1.0.weight",
    "language_model.model.layers.0.mlp.gate_proj.weight",
]  # fmt: skip


def write(folder, config, tensors=PLAIN):
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "model-1.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return folder


def auto_map(model, config="configuration_internvl_chat.InternVLChatConfig"):
    return original_config() | {"auto_map": {"AutoConfig": config, "AutoModel": model}}


def section(name, **changes):
    return original_config(**{name: changes})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (original_config(flash_mode=True), "Flash"),
        (section("llm_config", architectures=["InternLM2VEForCausalLM"]), "Mono"),
        (section("vision_config", architectures=["InternVisionPatchModel"]), "Mono"),
        (original_config(rope_pos_id_version="v2pe_fix"), "V2PE"),
        (original_config(rope_pos_id_stride=64), "V2PE"),
        (auto_map("modeling_internvl_chat_hico2.InternVLChatModel"), "chat_hico2"),
        (auto_map("modeling_internvl_chat.InternVLSpecialModel"), "InternVLSpecialModel"),
        (auto_map("someone/else--modeling_videochat.VideoChat"), "VideoChat"),
        (
            auto_map("modeling_internvl_chat.InternVLChatModel", "configuration_mine.Config"),
            "configuration_mine",
        ),
    ],
)
def test_by_config(config, words, tmp_path):
    with pytest.raises(UnsupportedCheckpointError, match=words) as caught:
        read_checkpoint(write(tmp_path, config))
    assert "base_url=" in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        original_config(flash_mode=False),
        original_config(rope_pos_id_version="default", rope_pos_id_stride=None),
        auto_map("modeling_internvl_chat.InternVLChatModel"),
        auto_map("OpenGVLab/InternVL2-8B--modeling_internvl_chat.InternVLChatModel"),
        original_config() | {"auto_map": {"AutoTokenizer": ["mine.Tokenizer", None]}},
        original_config() | {"auto_map": None},
    ],
)
def test_what_is_plain_internvl(config, tmp_path):
    assert read_checkpoint(write(tmp_path, config)).is_original


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ("mlp2.0.weight", "Flash"),
        ("gating.mlp.0.weight", "Flash"),
        ("language_model.model.layers.0.feed_forward_ve.w1.weight", "Mono"),
        ("language_model.base_model.model.layers.0.wo.lora_A.default.weight", "not merged"),
        ("token_merger.weight", "tensors that no InternVL has .token_merger"),
        ("query_tokens", "another architecture"),
    ],
)
def test_by_tensors(tensor, words, tmp_path):
    with pytest.raises(UnsupportedCheckpointError, match=words):
        read_checkpoint(write(tmp_path, original_config(), [*PLAIN, tensor]))


def test_nothing_is_downloaded_before(tmp_path, monkeypatch):
    """The index is among the small files, so the hub is not asked for weights."""
    asked = []

    def download(repo, _revision, patterns):
        asked.append(patterns)
        return write(tmp_path, original_config(), [*PLAIN, "mlp2.0.weight"])

    monkeypatch.setattr(hub, "download", download)
    with pytest.raises(UnsupportedCheckpointError, match="Flash"):
        open_checkpoint("OpenGVLab/InternVL3_5-8B-Flash")
    assert asked == [["*.json", "*.jinja", "*.model", "*.txt"]]


def quantised(method, where=None):
    """As AutoAWQ and LMDeploy (in `llm_config`), GPTQ and llm-compressor write it."""
    stored = {"quant_method": method, "bits": 4}
    if where == "llm_config":
        return original_config(llm_config={"quantization_config": stored})
    return original_config() | {"quantization_config": stored}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (quantised("awq", "llm_config"), ("lmdeploy", "'model_format': 'awq'", "[lmdeploy]")),
        (quantised("gptq"), ("lmdeploy", "'model_format': 'gptq'", "[quantization]")),
        (quantised("compressed-tensors"), ("(compressed-tensors)", "vLLM", "base_url=")),
        (quantised("fp8"), ("vLLM", "base_url=", "[quantization]")),
        (quantised("something new"), ("(something new)", "base_url=")),
    ],
)
def test_quantised_weights_name_what_loads_them(config, words, tmp_path, monkeypatch):
    """And that before the weights are downloaded, where the packages for them are missing."""
    for package in ("gptqmodel", "compressed_tensors"):
        monkeypatch.setitem(sys.modules, package, None)
    asked = []

    def download(_repo, _revision, patterns):
        asked.append(patterns)
        return write(tmp_path, config, [*PLAIN, "language_model.model.layers.0.wo.qweight"])

    monkeypatch.setattr(hub, "download", download)
    with pytest.raises(UnsupportedCheckpointError) as caught:
        open_checkpoint("OpenGVLab/InternVL2-8B-AWQ")
    assert [word for word in (*words, "quantization='4bit'") if word not in str(caught.value)] == []
    assert asked == [["*.json", "*.jinja", "*.model", "*.txt"]]
    assert read_checkpoint(tmp_path, runs_here=False).is_original  # LMDeploy and servers may


def test_an_adapter_beside_the_weights(tmp_path):
    """transformers would load it where peft is installed, and ignore it elsewhere."""
    write(tmp_path, original_config())
    (tmp_path / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(UnsupportedCheckpointError, match="name it as adapter="):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("tensor", ["wo.qweight", "wo.weight_packed", "wo.weight.absmax"])
def test_quantised_weights_whose_config_does_not_say_so(tensor, tmp_path):
    tensors = [*PLAIN, f"language_model.model.layers.0.attention.{tensor}"]
    with pytest.raises(UnsupportedCheckpointError, match=r"quantised weights .*lmdeploy"):
        read_checkpoint(write(tmp_path, original_config(), tensors))


# Configs as published, cut down to what tells them apart. Sources: SenseNova-SI-1.5-InternVL3-8B
# names the classes of OpenGVLab/InternVL3-8B in its auto_map; the file list of
# internlm/Intern-S1-mini has configuration_interns1.py and the tag `interns1`, LMDeploy and vLLM
# list InternS1ForConditionalGeneration; the README of baidubce/Qianfan-VL makes vLLM override
# architectures and model_type, so both are its own (their names are not known here).


@pytest.mark.parametrize(
    "owner", ["OpenGVLab/InternVL3-8B", "sensenova/SenseNova-SI-1.1-InternVL3-8B"]
)
def test_sensenova_si_is_a_plain_internvl(owner, tmp_path):
    config = original_config("qwen2", architectures=["InternVLChatModel"], template="internvl2_5")
    config["auto_map"] = {
        "AutoConfig": f"{owner}--configuration_internvl_chat.InternVLChatConfig",
        "AutoModel": f"{owner}--modeling_internvl_chat.InternVLChatModel",
        "AutoModelForCausalLM": f"{owner}--modeling_internvl_chat.InternVLChatModel",
    }
    config["llm_config"] |= {"architectures": ["Qwen2ForCausalLM"]}
    checkpoint = read_checkpoint(write(tmp_path, config))
    assert (checkpoint.language_model, checkpoint.is_original) == ("qwen2", True)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("interns1", ("an Intern-S1", "LMDeploy, vLLM or SGLang", "base_url=")),
        ("interns1_pro", ("an Intern-S1", "base_url=")),
        ("intern_s1", ("an Intern-S1", "base_url=")),
        ("qianfan_vl", ("a Qianfan-VL", "--hf-overrides", "baidu/Qianfan-OCR", "base_url=")),
    ],
)
def test_cousins_say_what_they_are(kind, words, tmp_path):
    config = {
        "model_type": kind,
        "architectures": ["InternS1ForConditionalGeneration"],
        "auto_map": {"AutoConfig": "configuration_interns1.InternS1Config"},
        "text_config": {"model_type": "qwen3"},
        "vision_config": {"model_type": "interns1_vision"},
    }
    with pytest.raises(UnsupportedCheckpointError, match="no InternVL") as caught:
        read_checkpoint(write(tmp_path, config))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("language_model", ["llama", "qwen2"])
def test_qianfan_vl_renamed_as_its_readme_does(language_model, tmp_path):
    """InternVL's type with classes of its own in auto_map: what they compute is not known."""
    config = original_config(language_model, architectures=["InternVLChatModel"])
    config["auto_map"] = {"AutoModel": "modeling_qianfanvl_chat.QianfanVLChatModel"}
    with pytest.raises(UnsupportedCheckpointError, match=r"QianfanVLChatModel.*base_url="):
        read_checkpoint(write(tmp_path, config))


def test_a_server_may_have_them(tmp_path):
    folder = write(tmp_path, original_config(flash_mode=True), [*PLAIN, "mlp2.0.weight"])
    assert read_checkpoint(folder, runs_here=False).language_model == "qwen3"


def test_without_an_index_the_header_tells(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(original_config()), "utf-8")
    header = json.dumps({"__metadata__": {}, "mlp2.0.weight": {}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert index_names(tmp_path) == set()
    with pytest.raises(UnsupportedCheckpointError, match="Flash"):
        read_checkpoint(tmp_path).find_weights()


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 7, struct.pack("<Q", 10**15), struct.pack("<Q", 2) + b"[[",
     struct.pack("<Q", 3) + b"[1]", struct.pack("<Q", 2) + b"\xff\xff"],
)  # fmt: skip
def test_what_is_no_safetensors(content, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        header_names([file])


@pytest.mark.parametrize("folder", [*map(checkpoint_folder, TINY), nano.FOLDER])
def test_headers_of_whole_files(folder):
    assert len(header_names([folder / "model.safetensors"])) > 20
