"""Views of checkpoints: what LMDeploy loads has no code, and the same tokens."""

import json
import shutil
import subprocess
import sys

import pytest
from checkpoints import original_config, random_model, write_hf
from golden import TINY, checkpoint_folder
from transformers import AutoTokenizer

from langchain_internvl import nano
from langchain_internvl.backends.lmdeploy.view import make_view, without_code
from langchain_internvl.checkpoint import open_checkpoint, read_checkpoint
from langchain_internvl.errors import CheckpointNotFoundError, RequestError
from langchain_internvl.prompting.tokenization import load_tokenizer


def view_of(folder, place):
    return make_view(read_checkpoint(folder), load_tokenizer(folder), place)


@pytest.mark.parametrize("name", [*TINY, "nano"])
def test_a_view_loads_without_code_and_has_the_same_tokens(name, tmp_path):
    folder = nano.FOLDER if name == "nano" else checkpoint_folder(name)
    view = view_of(folder, tmp_path / "view")
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(
        view, trust_remote_code=False, use_fast=False
    )  # fmt: skip
    known = {token.content: token.id for token in ours.added_tokens}
    assert known.items() <= theirs.get_vocab().items()
    assert theirs.convert_tokens_to_ids("<IMG_CONTEXT>") == ours.image_context_id
    assert theirs.eos_token_id == ours.eos_id
    assert load_tokenizer(view).encode_text("Ein Text, 一段文字.") == ours.encode_text(
        "Ein Text, 一段文字."
    )
    said = (view / "config.json").read_text("utf-8") + (view / "tokenizer_config.json").read_text()
    assert "auto_map" not in said
    assert not list(view.glob("*.py"))
    assert read_checkpoint(view).tiles == read_checkpoint(folder).tiles
    assert (view / "model.safetensors").is_symlink()
    assert (view / "model.safetensors").resolve() == (folder / "model.safetensors").resolve()


def test_code_of_a_checkpoint_is_left_behind(tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint_folder("internlm2"), folder)
    (folder / "modeling_internvl_chat.py").write_text("raise SystemExit('ran')")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["auto_map"] = {"AutoConfig": "modeling_internvl_chat.Config"}
    config["llm_config"]["auto_map"] = {"AutoModel": "modeling_internvl_chat.Model"}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    view = view_of(folder, tmp_path / "view")
    assert not list(view.glob("*.py"))
    assert "auto_map" not in (view / "config.json").read_text("utf-8")


def test_an_hf_checkpoint_says_what_lmdeploy_asks_for(tmp_path):
    """TurboMind wants the language model's class; processors want names of tokens, and a count."""
    folder = write_hf(tmp_path / "hf", random_model(original_config()))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_config"].pop("architectures", None)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    view = view_of(folder, tmp_path / "view")
    assert json.loads((view / "config.json").read_text())["text_config"]["architectures"] == [
        "Qwen3ForCausalLM"
    ]
    tokenizer = AutoTokenizer.from_pretrained(view, trust_remote_code=False)
    assert tokenizer.context_image_token_id == load_tokenizer(folder).image_context_id
    assert json.loads((view / "processor_config.json").read_text())["image_seq_length"] == 256


def test_an_older_view_is_replaced_and_other_folders_are_left_alone(tmp_path):
    place = tmp_path / "view"
    view_of(checkpoint_folder("qwen2"), place)
    view_of(checkpoint_folder("llama"), place)
    assert read_checkpoint(place).language_model == "llama"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(RequestError, match="name another folder"):
        view_of(checkpoint_folder("llama"), tmp_path / "mine")
    assert (tmp_path / "mine/notes.txt").read_text() == "keep"


def test_a_checkpoint_without_weights(tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(
        checkpoint_folder("qwen2"), folder, ignore=shutil.ignore_patterns("*.safetensors")
    )
    with pytest.raises(CheckpointNotFoundError, match="no weights"):
        view_of(folder, tmp_path / "view")
    assert not (tmp_path / "view").exists()


def test_without_code():
    settings = {"auto_map": 1, "a": {"auto_map": 2, "b": [1]}, "c": None}
    assert without_code(settings) == {"a": {"b": [1]}, "c": None}


def test_what_only_lmdeploy_runs_has_a_view(tmp_path):
    """Quantised weights, which the transformers backend refuses."""
    folder = tmp_path / "awq"
    shutil.copytree(checkpoint_folder("qwen2"), folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["llm_config"]["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    checkpoint = open_checkpoint(str(folder), runs_here=False)
    view = make_view(checkpoint, load_tokenizer(folder), tmp_path / "view")
    kept = json.loads((view / "config.json").read_text())["llm_config"]["quantization_config"]
    assert kept["quant_method"] == "awq"


def test_the_command_makes_a_view_and_says_how_to_serve_it(tmp_path):
    command = [sys.executable, "-m", "langchain_internvl", "serve-view"]
    model, place = str(checkpoint_folder("internlm2")), tmp_path / "view"
    done = subprocess.run(
        [*command, model, str(place)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (place / "tokenizer.json").is_file()
    said = done.stdout.split()
    assert said[:4] == ["lmdeploy", "serve", "api_server", str(place)]
    window = load_tokenizer(checkpoint_folder("internlm2")).model_max_length
    assert said[said.index("--session-len") + 1] == str(window)
    again = subprocess.run(
        [*command, model, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "name another folder" in again.stderr


def test_the_command_names_the_engine_that_runs_phi3(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "langchain_internvl", "serve-view",
         str(checkpoint_folder("phi3")), str(tmp_path / "view")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--backend pytorch" in done.stdout
