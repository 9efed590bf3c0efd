"""Settings out of range or of the wrong type are named; a seeded fuzz test finds no other error."""

import json
import random
import shutil

import pytest
from checkpoints import JINJA, original_config
from golden import TINY, checkpoint_folder

from langchain_internvl import nano
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import CheckpointError, RequestError
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.template_choice import choose_template


def write(folder, config, name="config"):
    (folder / f"{name}.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.parametrize("size", [0, -448, 1_000_000, True, "448", 448.0, [448], [448, 224], {}])
@pytest.mark.parametrize("place", ["force_image_size", "vision_config.image_size"])
def test_image_size(size, place, tmp_path):
    section, _, name = place.rpartition(".")
    config = original_config(force_image_size=None)
    config |= {section: config[section] | {name: size}} if section else {name: size}
    with pytest.raises(CheckpointError, match=rf"config\.json: {place} is .*whole number from 14"):
        read_checkpoint(write(tmp_path, config))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("downsample_ratio", ratio) for ratio in (1e9, float("nan"), -0.5, 0, "half", 0.3, True)),
        ("llm_config.num_hidden_layers", 10**9),
        pytest.param("llm_config.num_hidden_layers", 10**4000, id="thousands of digits"),
        ("llm_config.num_attention_heads", -4),
        ("llm_config.num_key_value_heads", 3),
        ("llm_config.hidden_size", 10**9),
        ("llm_config.vocab_size", 10**12),
        ("llm_config.max_position_embeddings", float("inf")),
        ("llm_config.rope_scaling", 7),
        ("llm_config.rope_scaling", {"type": "dynamic", "factor": float("nan")}),
        ("llm_config.rope_scaling", {"type": "dynamic"}),
        ("llm_config.rope_scaling", {"rope_type": "longrope", "short_factor": [1.0]}),
        ("llm_config.rope_theta", "big"),
        *(("llm_config.decoder_sparse_step", step) for step in ("2", 0, [2])),
        *(("llm_config.mlp_only_layers", layers) for layers in (3, ["a"], [-1])),
        *(("llm_config.swiglu_limit", limit) for limit in (True, "7", -1)),
        ("llm_config.tie_word_embeddings", "yes"),
        ("vision_config.patch_size", 0),
        ("vision_config.patch_size", 15),
        ("vision_config.num_attention_heads", -1),
        ("vision_config.num_channels", 4),
        ("min_dynamic_patch", 0),
        ("max_dynamic_patch", 10**9),
        ("max_dynamic_patch", None),
        ("use_thumbnail", 1),
        ("select_layer", 99),
        ("template", 7),
        ("llm_config", []),
        ("vision_config", "small"),
        ("eos_token_id", [1.5]),
        ("auto_map", "here"),
    ],
)
def test_the_field_is_named(path, value, tmp_path):
    section, _, name = path.rpartition(".")
    config = original_config()
    config |= {section: config[section] | {name: value}} if section else {name: value}
    with pytest.raises(CheckpointError, match=rf"config\.json.*{name}"):
        read_checkpoint(write(tmp_path, config))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("vision_feature_select_strategy", "full", "has to be 'default'"),
        ("vision_feature_select_strategy", "banana", "has to be 'default'"),
        ("vision_feature_layer", 0, "the layer that is meant is also -7"),
        ("vision_feature_layer", [-1, -2], "a whole number"),
    ],
)
def test_a_field_of_the_native_format_is_named(name, value, words, tmp_path):
    """transformers fails on these at the first image only."""
    shutil.copytree(nano.FOLDER, tmp_path, dirs_exist_ok=True)
    config = json.loads((nano.FOLDER / "config.json").read_text("utf-8"))
    with pytest.raises(CheckpointError, match=rf"config\.json.*{name} is .*{words}"):
        read_checkpoint(write(tmp_path, config | {name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", "hot"), ("top_k", -1), ("top_p", 7), ("repetition_penalty", 0),
     ("eos_token_id", {}), ("do_sample", "no")],
)  # fmt: skip
def test_generation_settings(name, value, tmp_path):
    write(tmp_path, original_config())
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: {name} is"):
        read_checkpoint(write(tmp_path, {name: value}, "generation_config"))


@pytest.mark.parametrize("settings", [{"max_patches": 10**9}, {"min_patches": 9, "max_patches": 2}])
def test_preprocessor_settings(settings, tmp_path):
    shutil.copytree(nano.FOLDER, tmp_path, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: m.._patches is"):
        read_checkpoint(write(tmp_path, settings, "preprocessor_config"))


# What a fuzzer puts in place of a value.
WRONG = (
    None, True, False, 0, -1, 1, 2, 3, 7, 10**9, 10**30, 0.5, -0.5, 1e9, 1e300, float("nan"),
    float("inf"), "", "x", "448", [], [0], [448, 448], [None], {}, {"a": 1}, [[[[]]]], "\0",
    "{% for x in y %}", "../../x", 2**31, 2**63, "longrope", "v1",
)  # fmt: skip


def fields(value, path=()):
    """The paths of all values in a settings file, sections included."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield (*path, name)
            yield from fields(one, (*path, name))
    elif isinstance(value, list) and value:
        yield (*path, 0)


def changed(settings, path, wrong):
    copy = json.loads(json.dumps(settings))
    place = copy
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    return copy


def mutations(settings, chance, most):
    every = [(path, wrong) for path in fields(settings) for wrong in WRONG]
    chance.shuffle(every)
    return every[:most]


SOURCES = {**{name: checkpoint_folder(name) for name in TINY}, "nano": nano.FOLDER}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_any_wrong_setting_is_a_checkpoint_error_or_does_no_harm(source, tmp_path):
    chance = random.Random(source.name)
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    refused = 0
    for file in ("config", "generation_config", "preprocessor_config"):
        settings = json.loads((source / f"{file}.json").read_text("utf-8"))
        for path, wrong in mutations(settings, chance, 700):
            write(tmp_path, changed(settings, path, wrong), file)
            try:
                checkpoint = read_checkpoint(tmp_path)
                checkpoint.find_weights()
                assert 1 <= checkpoint.tokens_per_tile <= 65_536
                assert 14 <= checkpoint.tiles.tile_size <= 4096
            except CheckpointError:
                refused += 1
        write(tmp_path, settings, file)
    assert refused > 100


@pytest.mark.parametrize("name", ["qwen2", "phi3"])
def test_settings_that_pass_and_do_not_fit_the_weights(name, tmp_path):
    """Whatever gets as far as the weights is loaded, or refused by the same error."""
    chance = random.Random(name)
    shutil.copytree(checkpoint_folder(name), tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text("utf-8"))
    loaded = tried = 0
    for path, wrong in mutations(settings, chance, 3000):
        if path[0] not in {"llm_config", "vision_config"} or tried == 40:
            continue
        try:
            checkpoint = read_checkpoint(write(tmp_path, changed(settings, path, wrong)))
        except CheckpointError:
            continue
        tried += 1
        try:
            load_model(checkpoint, 1005, LoadOptions())
            loaded += 1
        except CheckpointError:
            continue
    assert loaded
    assert tried == 40


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("llm_config.hidden_act", "__import__"),
        ("llm_config.rope_scaling", {"type": "banana", "factor": 2.0}),
        ("vision_config.hidden_act", "banana"),
        ("vision_config.norm_type", "banana"),
    ],
)
def test_names_that_transformers_does_not_know_are_named(path, value, tmp_path):
    """Known only where the model runs: a server's engine may know others."""
    shutil.copytree(checkpoint_folder("qwen2"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    section, _, name = path.rpartition(".")
    checkpoint = read_checkpoint(
        write(tmp_path, config | {section: config[section] | {name: value}})
    )
    with pytest.raises(CheckpointError, match=rf"config\.json: {path}.* has to be "):
        load_model(checkpoint, 1005, LoadOptions())


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_any_wrong_setting_of_a_tokenizer(name, tmp_path):
    chance = random.Random(name)
    shutil.copytree(checkpoint_folder(name), tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").write_text(JINJA, "utf-8")
    checkpoint = read_checkpoint(tmp_path)
    for file in ("tokenizer_config", "special_tokens_map", "added_tokens"):
        settings = json.loads((tmp_path / f"{file}.json").read_text("utf-8"))
        for path, wrong in mutations(settings, chance, 40):
            write(tmp_path, changed(settings, path, wrong), file)
            try:
                tokenizer = load_tokenizer(tmp_path)
                assert tokenizer.model_max_length is None or tokenizer.model_max_length > 0
                assert tokenizer.jinja_template is None or tokenizer.jinja_template
                assert tokenizer.eos_id is None or tokenizer.eos_id >= 0
                assert tokenizer.token_bytes
                choose_template(checkpoint, tokenizer)
            except CheckpointError:
                continue
        write(tmp_path, settings, file)


def test_what_a_user_chose_is_no_fault_of_the_checkpoint(tmp_path):
    checkpoint = read_checkpoint(write(tmp_path, original_config()))
    with pytest.raises(RequestError):
        checkpoint.tiles.narrowed(7, 3)
