"""Files of a checkpoint that are not what they are called."""

import json
import os
import shutil

import pytest
from checkpoints import original_config
from golden import checkpoint_folder

from langchain_internvl.checkpoint import open_checkpoint, read_checkpoint
from langchain_internvl.errors import CheckpointError, CheckpointNotFoundError
from langchain_internvl.model_files.folders import check_files
from langchain_internvl.model_files.weight_size import check_size
from langchain_internvl.prompting.tokenization import load_tokenizer

READ = [
    "config.json", "generation_config.json", "model.safetensors", "tokenizer_config.json",
    "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "preprocessor_config.json", "tokenizer.model", "chat_template.jinja",
    "model.safetensors.index.json",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(checkpoint_folder("qwen2"), tmp_path / "checkpoint")


def pipe(file):
    os.mkfifo(file)


def directory(file):
    file.mkdir()


def device(file):
    file.symlink_to("/dev/zero")


def lost_link(file):
    file.symlink_to(file.with_name("gone"))


def circle(file):
    file.symlink_to(file)


def huge(file):
    with file.open("wb") as opened:
        opened.truncate(1 << 40)  # takes no room


KINDS = {
    pipe: "is a pipe",
    directory: "is a directory",
    device: "is a device",
    lost_link: "gone",
    circle: "cannot be read",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders on this system")
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", READ)
def test_only_regular_files_are_read(name, make, folder):
    """Neither of the two ways into a folder opens them, so none waits for a pipe's other end."""
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    for read in (lambda: open_checkpoint(str(folder)), lambda: load_tokenizer(folder)):
        with pytest.raises(CheckpointError, match=f"{name} .*{KINDS[make]}"):
            read()


@pytest.mark.parametrize("name", [name for name in READ if name != "model.safetensors"])
def test_files_that_are_too_large(name, folder):
    (folder / name).unlink(missing_ok=True)
    huge(folder / name)
    with pytest.raises(CheckpointError, match=f"{name} has {1 << 40} bytes"):
        open_checkpoint(str(folder))


def test_more_chat_templates(folder):
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "rag.jinja").write_text("{{ 1 }}", "utf-8")
    check_files(folder)
    pipe(more / "tool.jinja")
    with pytest.raises(CheckpointError, match=r"tool\.jinja is a pipe"):
        check_files(folder)


def test_links_to_regular_files_are_what_the_hub_cache_has(folder, tmp_path):
    (folder / "config.json").rename(tmp_path / "blob")
    (folder / "config.json").symlink_to(tmp_path / "blob")
    assert open_checkpoint(str(folder)).language_model == "qwen2"


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_files(tmp_path / "file")


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ([], "holds a list"),
        ({}, "weight_map"),
        ({"weight_map": ["a"]}, "weight_map"),
        ({"weight_map": {"mlp1.0.weight": 7}}, "names '7'"),
        ({"weight_map": {"mlp1.0.weight": "../model.safetensors"}}, "same folder"),
        ({"weight_map": {"mlp1.0.weight": "/etc/passwd"}}, "same folder"),
        ({"weight_map": {"mlp1.0.weight": "tokenizer_config.json"}}, "same folder"),
        ({"weight_map": {"mlp1.0.weight": "model-2.safetensors"}}, r"lacks model-2\.safetensors"),
    ],
)
def test_an_index_of_weights(index, words, folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(CheckpointError, match=words) as caught:
        open_checkpoint(str(folder)).find_weights()
    assert isinstance(caught.value, CheckpointNotFoundError) == ("lacks" in words)


@pytest.mark.parametrize(
    "changes",
    [
        {"llm_config": {"num_hidden_layers": 1000}},
        {"llm_config": {"vocab_size": 9_000_000}},
        {"llm_config": {"intermediate_size": 900_000}},
        {"vision_config": {"num_hidden_layers": 1000}},
        {"llm_config": {"num_experts": 4000}},
    ],
)
def test_weights_too_small_for_the_config(changes, folder):
    """transformers would make the missing tensors first, and then report them."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {name: config[name] | part for name, part in changes.items()}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(CheckpointError, match="describes a model of at least"):
        read_checkpoint(folder).find_weights()


@pytest.mark.parametrize(
    "dense", [{"decoder_sparse_step": 8}, {"mlp_only_layers": [0, 1, 2, 3, 4, 5, 6]}]
)
def test_dense_layers_of_a_mixture_are_smaller(dense):
    """One layer of eight has experts: 0.45 GB in bfloat16, not 3.3 GB."""
    config = original_config(
        "qwen3_moe",
        llm_config={
            "hidden_size": 1024, "intermediate_size": 3072, "moe_intermediate_size": 512,
            "num_experts": 128, "num_hidden_layers": 8, "num_attention_heads": 8, "head_dim": 128,
            "vocab_size": 1000, **dense,
        },
    )  # fmt: skip
    check_size(config, 450_000_000, "folder")
    with pytest.raises(CheckpointError):
        check_size(config, 90_000_000, "folder")
    config["llm_config"].update(decoder_sparse_step=1, mlp_only_layers=[])
    with pytest.raises(CheckpointError):
        check_size(config, 450_000_000, "folder")


def test_an_original_config_of_a_real_size_is_accepted(tmp_path):
    """InternVL3-8B: 15.9 GB of weights in bfloat16, as its index says."""

    config = original_config(
        "qwen2",
        llm_config={
            "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "vocab_size": 151674,
            "head_dim": 128,
        },
        vision_config={"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24},
    )  # fmt: skip
    check_size(config, 15_900_000_000, "folder")
    check_size(config, 4_000_000_000, "folder")  # in four bits
    with pytest.raises(CheckpointError):
        check_size(config, 1_000_000_000, "folder")
