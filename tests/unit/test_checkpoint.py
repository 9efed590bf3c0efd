"""What checkpoints say about themselves, and which are refused."""

import json
import shutil

import numpy as np
import pytest
from checkpoints import JINJA, original_config
from golden import TINY, checkpoint_folder
from PIL import Image

from langchain_internvl.checkpoint import open_checkpoint, read_checkpoint
from langchain_internvl.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    PromptError,
    UnsupportedCheckpointError,
)
from langchain_internvl.media.tiling import PixelScale, TileLimits
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.template_choice import choose_template


def write(folder, config, **files):
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return folder


def hf_config(**changes):
    return {
        "model_type": "internvl",
        "text_config": {"model_type": "qwen2"},
        "vision_config": {"image_size": [448, 448], "patch_size": [14, 14]},
        "image_seq_length": 256,
        **changes,
    }


@pytest.mark.parametrize("name", TINY)
def test_tiny_checkpoints(name, tokenizers):
    checkpoint = open_checkpoint(str(checkpoint_folder(name)))
    assert checkpoint.is_original
    assert checkpoint.repo is None
    assert checkpoint.language_model == name
    assert checkpoint.tiles == TileLimits(1, 12, 448, thumbnail=True)
    assert checkpoint.tokens_per_tile == 256
    assert checkpoint.find_weights() == checkpoint_folder(name)
    expected = {"internlm2": "internlm2-chat", "phi3": "phi3-chat"}.get(name, "Hermes-2")
    assert choose_template(checkpoint, tokenizers(name)).name == expected
    if name != "phi3":  # whose tokenizer has no <|im_end|>
        assert choose_template(checkpoint, tokenizers(name), "internvl2_5").name == "internvl2_5"


def test_tiling_comes_from_an_original_config(tmp_path):
    config = original_config(
        min_dynamic_patch=2, max_dynamic_patch=6, use_thumbnail=False, force_image_size=224
    )
    checkpoint = read_checkpoint(write(tmp_path, config))
    assert checkpoint.tiles == TileLimits(2, 6, 224, thumbnail=False)
    assert checkpoint.tokens_per_tile == 64
    whole = read_checkpoint(write(tmp_path, original_config(dynamic_image_size=False)))
    assert whole.tiles == TileLimits(1, 1)


def test_tiling_that_an_original_config_leaves_out_is_that_of_internvl_1(tmp_path):
    """Defaults of `configuration_internvl_chat.py`: whole images, six tiles if they are cut."""
    config = original_config()
    names = ("min_dynamic_patch", "max_dynamic_patch", "use_thumbnail", "dynamic_image_size")
    for name in names:
        del config[name]
    assert read_checkpoint(write(tmp_path, config)).tiles == TileLimits(1, 1, thumbnail=False)
    config["dynamic_image_size"] = True
    assert read_checkpoint(write(tmp_path, config)).tiles == TileLimits(1, 6, thumbnail=False)


def test_tiling_comes_from_an_hf_preprocessor(tmp_path):
    folder = write(tmp_path, hf_config(), preprocessor_config={"min_patches": 2, "max_patches": 8})
    checkpoint = read_checkpoint(folder)
    assert not checkpoint.is_original
    assert checkpoint.tiles == TileLimits(2, 8)
    assert checkpoint.tokens_per_tile == 256
    # Their files say so, but transformers' InternVLProcessor crops nevertheless.
    write(tmp_path, hf_config(), preprocessor_config={"crop_to_patches": False, "max_patches": 8})
    assert read_checkpoint(tmp_path).tiles == TileLimits(1, 8)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, PixelScale()),
        ({"image_mean": None, "image_std": None, "do_normalize": True}, PixelScale()),
        ({"image_mean": 0.5, "image_std": [0.5, 0.25, 1]},
         PixelScale((0.5, 0.5, 0.5), (0.5, 0.25, 1.0))),
        ({"do_normalize": False, "image_mean": [0.5] * 3}, PixelScale((0.0,) * 3, (1.0,) * 3)),
        ({"do_rescale": None, "rescale_factor": 0.5}, PixelScale(factor=0.5)),
        ({"do_rescale": False, "rescale_factor": 0.5}, PixelScale(factor=1.0)),
        ({"do_rescale": False, "do_normalize": False},
         PixelScale((0.0,) * 3, (1.0,) * 3, 1.0)),
    ],
)  # fmt: skip
def test_the_scale_of_pixels_comes_from_an_hf_preprocessor(settings, expected, tmp_path):
    """transformers applies it; the code of original checkpoints has ImageNet's."""
    write(tmp_path, hf_config(), preprocessor_config=settings)
    assert read_checkpoint(tmp_path).pixel_scale == expected
    (tmp_path / "preprocessor_config.json").unlink()
    write(tmp_path, hf_config(), processor_config={"image_processor": settings})
    assert read_checkpoint(tmp_path).pixel_scale == expected
    write(tmp_path, original_config(), preprocessor_config=settings)
    assert read_checkpoint(tmp_path).pixel_scale == PixelScale()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_mean": [0.5, 0.5]}, "image_mean has 2 values, for 3 channels"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std is"),
        ({"image_std": "small"}, "image_std is 'small'"),
        ({"do_normalize": 1}, "do_normalize is 1"),
        ({"do_rescale": "no"}, "do_rescale is 'no'"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"resample": 6}, "resample is 6"),
        ({"resample": "bicubic"}, "resample is 'bicubic'"),
        ({"size": {"height": 336, "width": 336}}, "size is .*, but the model's tiles have .* 448"),
        ({"size": {"shortest_edge": 224}}, "size is .*, but the model's tiles have .* 448"),
        ({"size": 384}, "size is 384, but the model's tiles have .* 448"),
        ({"size": [448, 384]}, r"size is \[448, 384\], but the model's tiles have .* 448"),
    ],
)
def test_settings_of_an_hf_preprocessor_that_cannot_be_applied(settings, words, tmp_path):
    write(tmp_path, hf_config(), preprocessor_config=settings)
    with pytest.raises(CheckpointError, match=rf"preprocessor_config\.json: {words}"):
        read_checkpoint(tmp_path)
    write(tmp_path, hf_config(), processor_config={"image_processor": settings})
    where = r"processor_config\.json: image_processor"
    with pytest.raises(CheckpointError, match=f"{where}: {words}"):
        read_checkpoint(tmp_path)


def test_sizes_of_an_hf_preprocessor_that_are_those_of_the_tiles(tmp_path):
    by_name = {"height": 448, "width": 448}, {"height": 448, "longest_edge": None}
    for size in (448, [448, 448], *by_name, None):
        write(tmp_path, hf_config(), preprocessor_config={"size": size})
        assert read_checkpoint(tmp_path).tiles.tile_size == 448


@pytest.mark.parametrize(
    ("stated", "expected"),
    [({}, 3), ({"resample": None}, 3), ({"resample": 2}, 2), ({"resample": 0}, 0)],
)
def test_the_filter_of_an_hf_preprocessor_resizes_images(stated, expected, tmp_path):
    """transformers applies it; the code of original checkpoints has the bicubic one."""
    limits = read_checkpoint(write(tmp_path, hf_config(), preprocessor_config=stated)).tiles
    image = Image.effect_noise((300, 200), 90).convert("RGB")
    small = image.resize((448, 448), expected)
    assert np.array_equal(limits.narrowed(1, 1).cut(image), [np.asarray(small)])
    grid = np.asarray(image.resize((896, 448), expected))
    *tiles, thumbnail = limits.narrowed(2, 2).cut(image)
    assert np.array_equal(np.concatenate(tiles, 1), grid)
    assert np.array_equal(thumbnail, small)
    write(tmp_path, original_config(), preprocessor_config=stated)
    assert read_checkpoint(tmp_path).tiles.resample == 3


def test_the_processors_settings_precede_those_of_an_older_file(tmp_path):
    """transformers 5 saves them there, and takes them from there, if a file is left beside it."""
    write(tmp_path, hf_config(), preprocessor_config={"max_patches": 6, "image_mean": 0.25},
          processor_config={"image_processor": {"max_patches": 4}})  # fmt: skip
    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.tiles.max_tiles, checkpoint.pixel_scale) == (4, PixelScale())
    for other in ({}, {"image_processor": None}):  # as older releases save it
        write(tmp_path, hf_config(), processor_config=other)
        assert read_checkpoint(tmp_path).tiles.max_tiles == 6


def test_tiling_comes_from_the_processor_as_transformers_5_saves_it(tmp_path):
    processor = {"image_processor": {"min_patches": 2, "max_patches": 4}}
    assert read_checkpoint(write(tmp_path, hf_config(), processor_config=processor)).tiles == (
        TileLimits(2, 4)
    )


def test_end_tokens(tmp_path):
    for eos, expected in ((5, (5,)), ([5, 7], (5, 7)), (None, ())):
        write(tmp_path, hf_config(), generation_config={"eos_token_id": eos})
        assert read_checkpoint(tmp_path).eos_ids == expected
    write(tmp_path, hf_config(eos_token_id=3), generation_config={})
    assert read_checkpoint(tmp_path).eos_ids == (3,)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "llama"}, r"no InternVL .* use one of"),
        ({}, "no InternVL"),
        ({"model_type": "intern_vit_6b"}, "no InternVL"),
        (original_config("mamba"), r"'mamba'; supported are gpt_oss, internlm2"),
        (hf_config(text_config={"model_type": "mamba"}), "'mamba'"),
        (hf_config(text_config={}), "None"),
        (original_config() | {"quantization_config": {"quant_method": "awq"}}, r"awq.*LMDeploy"),
        (original_config(llm_config={"quantization_config": {"quant_method": "gptq"}}), "gptq"),
        (original_config(ps_version="v3"), "ps_version is 'v3'"),
        (original_config(ps_version=None), "ps_version is None"),
        (original_config(ps_version=["v2"]), r"ps_version is \['v2'\]"),
    ],
)
def test_what_is_not_supported_says_so(config, words, tmp_path):
    with pytest.raises(UnsupportedCheckpointError, match=words):
        read_checkpoint(write(tmp_path, config))


@pytest.mark.parametrize(
    "model",
    [
        "no_such_folder", "/no/such/folder", "./a/b", "a/b/c", "", "~nobody-of-this-name/x",
        "x" * 5000, "a\0b",
    ],
)  # fmt: skip
def test_what_is_neither_a_folder_nor_a_hub_id(model):
    with pytest.raises(CheckpointNotFoundError):
        open_checkpoint(model)


def test_a_hub_id_that_cannot_be_had():
    with pytest.raises(CheckpointNotFoundError, match="hub"):
        open_checkpoint("OpenGVLab/InternVL-that-does-not-exist")


def test_folders_that_are_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match=r"no config\.json"):
        open_checkpoint(str(tmp_path))
    write(tmp_path, original_config())
    with pytest.raises(CheckpointNotFoundError, match=r"no weights \(\*\.safetensors\)$"):
        open_checkpoint(str(tmp_path)).find_weights()
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointNotFoundError, match="convert them"):
        open_checkpoint(str(tmp_path)).find_weights()


def test_weights_that_are_pointers_of_git_lfs(tmp_path):
    write(tmp_path, original_config())
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        open_checkpoint(str(tmp_path)).find_weights()


def test_an_original_checkpoint_needs_no_preprocessor(tmp_path):
    write(tmp_path, original_config())
    (tmp_path / "preprocessor_config.json").write_text("{", "utf-8")
    assert read_checkpoint(tmp_path).tiles == TileLimits(1, 12)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("\xff", "cannot be read"),
        ("[]", "holds a list"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ],
)
def test_damaged_files(content, words, tmp_path):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=words) as caught:
        open_checkpoint(str(tmp_path))
    assert not isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    "config",
    [
        original_config(force_image_size="big"),
        original_config(force_image_size=None, vision_config={"image_size": []}),
        original_config() | {"force_image_size": {"a": 1}},
        original_config(vision_config={"patch_size": 0}),
        original_config(min_dynamic_patch=7, max_dynamic_patch=3),
        original_config(max_dynamic_patch="many"),
        original_config(downsample_ratio="half"),
        original_config(eos_token_id=["end"]),
        original_config(quantization_config="awq"),
        original_config() | {"llm_config": "qwen2"},
        original_config() | {"llm_config": {"model_type": ["qwen2"]}},
        hf_config(image_seq_length=None, vision_config=7),
        {"model_type": ["internvl"]},
    ],
)
def test_settings_of_the_wrong_type(config, tmp_path):
    with pytest.raises(CheckpointError):
        read_checkpoint(write(tmp_path, config))


def test_a_checkpoint_in_the_hub_cache(tmp_path, monkeypatch):
    """As the hub lays it out: small files first, weights of the same commit when needed."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--OpenGVLab--tiny"
    snapshot = repo / "snapshots" / commit
    shutil.copytree(checkpoint_folder("qwen2"), snapshot)
    (repo / "refs").mkdir()
    (repo / "refs/main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    checkpoint = open_checkpoint("OpenGVLab/tiny")
    assert checkpoint.repo == "OpenGVLab/tiny"
    assert checkpoint.folder == checkpoint.find_weights() == snapshot
    assert open_checkpoint("OpenGVLab/tiny", commit).folder == snapshot
    with pytest.raises(CheckpointNotFoundError):
        open_checkpoint("OpenGVLab/tiny", "another-branch")


def test_an_unknown_original_template_is_named(tmp_path, tokenizers):
    checkpoint = read_checkpoint(write(tmp_path, original_config(template="vicuna")))
    with pytest.raises(UnsupportedCheckpointError, match="'vicuna'"):
        choose_template(checkpoint, tokenizers("qwen2"))
    assert choose_template(checkpoint, tokenizers("qwen2"), "Hermes-2").name == "Hermes-2"
    for wrong, near in (("internvl2.5", "internvl2_5"), ("hermes", "Hermes-2")):
        with pytest.raises(PromptError, match=f"did you mean {near!r}"):
            choose_template(checkpoint, tokenizers("qwen2"), wrong)
    with pytest.raises(PromptError, match="'vicuna'"):
        choose_template(checkpoint, tokenizers("qwen2"), "vicuna")
    with pytest.raises(PromptError, match=r"<\|end\|>"):
        choose_template(checkpoint, tokenizers("qwen2"), "phi3-chat")


# Chat templates of -hf checkpoints.


def hf_folder(folder, *, jinja=None, in_tokenizer=None, in_json=None):
    for file in checkpoint_folder("qwen2").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    settings_file = folder / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text("utf-8"))
    settings.pop("chat_template")
    if in_tokenizer is not None:
        settings["chat_template"] = in_tokenizer
    settings_file.write_text(json.dumps(settings), "utf-8")
    if jinja is not None:
        (folder / "chat_template.jinja").write_text(jinja, "utf-8")
    if in_json is not None:
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": in_json}), "utf-8")
    return read_checkpoint(write(folder, hf_config()))


NAMED = [{"name": "default", "template": JINJA}, {"name": "rag", "template": "{{ 1 }}"}]


@pytest.mark.parametrize(
    ("place", "template"),
    [("jinja", JINJA), ("in_tokenizer", JINJA), ("in_tokenizer", NAMED), ("in_json", JINJA)],
)
def test_the_template_of_an_hf_checkpoint_is_found_by_what_it_writes(place, template, tmp_path):
    checkpoint = hf_folder(tmp_path, **{place: template})
    assert choose_template(checkpoint, load_tokenizer(tmp_path)).name == "internvl-hf"


def test_one_of_two_templates_is_enough(tmp_path):
    checkpoint = hf_folder(tmp_path, in_tokenizer="{{ 'something' }}", in_json=JINJA)
    assert choose_template(checkpoint, load_tokenizer(tmp_path)).name == "internvl-hf"


@pytest.mark.parametrize(
    "jinja",
    [
        None,
        JINJA.replace("<|im_end|>\n", "<|im_end|>"),
        "{{ 'You are helpful.' }}" + JINJA,
        "{% for message in messages %}{{ message['content'] }}{% endfor %}",
        "{{ 1 / 0 }}",
        "{% for %}",
    ],
)
def test_an_unknown_jinja_template_is_refused(jinja, tmp_path):
    checkpoint = hf_folder(tmp_path, jinja=jinja)
    tokenizer = load_tokenizer(tmp_path)
    with pytest.raises(UnsupportedCheckpointError, match="chat_template="):
        choose_template(checkpoint, tokenizer)
    assert choose_template(checkpoint, tokenizer, "internvl2_5").name == "internvl2_5"
