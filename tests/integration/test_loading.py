"""Loading weights: every kind of checkpoint, through from_pretrained and without remote code."""

import gc
import json
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import original_config, random_model, to_original, write_hf, write_original
from golden import PHOTOS, TINY, checkpoint_folder
from patience import PATIENCE
from safetensors.torch import load_file
from support import FixedBackend, decode, load_loop
from transformers import InternVLForConditionalGeneration

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.config import translate_config
from langchain_internvl.backends.transformers.loading import (
    LoadOptions,
    load_model,
)
from langchain_internvl.backends.transformers.weights import InternVLChatModel
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import CheckpointError
from langchain_internvl.media.tiling import normalise

KINDS = {
    "InternVL2.5 (Qwen2)": original_config("qwen2", llm_config={"attention_bias": True}),
    "InternVL3 (Qwen2, dynamic rope)": original_config(
        "qwen2",
        llm_config={
            "attention_bias": True,
            "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
        },
    ),
    "InternVL3 (Qwen2, tied)": original_config("qwen2", llm_config={"tie_word_embeddings": True}),
    "InternVL3.5 (Qwen3)": original_config("qwen3"),
    "InternVL3.5 (Qwen3, tied)": original_config("qwen3", llm_config={"tie_word_embeddings": True}),
    "InternViT-6B": original_config(
        "qwen3",
        vision_config={"norm_type": "rms_norm", "qk_normalization": True, "qkv_bias": False},
    ),
    "rope of Llama 3": original_config(
        "llama",
        llm_config={
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }
        },
    ),
}


def load(folder, **options):
    return load_model(read_checkpoint(folder), 1005, LoadOptions(**options))


def assert_same_weights(model, expected):
    loaded, wanted = model.state_dict(), expected.state_dict()
    assert loaded.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_every_kind_loads_from_original_names(config, tmp_path):
    source = random_model(config)
    tensors = to_original(source.state_dict())
    if config["llm_config"]["tie_word_embeddings"]:
        del tensors["language_model.lm_head.weight"]
    model = load(write_original(tmp_path, config, tensors))
    assert type(model) is InternVLChatModel
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert_same_weights(model, source)


@pytest.mark.parametrize("config", [KINDS["InternVL3.5 (Qwen3)"]], ids=["InternVL3.5"])
def test_original_and_hf_say_the_same(config, tmp_path):
    """Also the decode loop against transformers' own `generate`, with an image."""
    source = random_model(config, dtype=torch.float32)
    write_original(tmp_path / "original", config, to_original(source.state_dict()))
    write_hf(tmp_path / "hf", source, crop_to_patches=True, min_patches=1, max_patches=2)
    ids = {}
    for kind in ("original", "hf"):
        llm = ChatInternVL(
            model=str(tmp_path / kind), dtype="float32", max_tokens=8, default_system=None,
            temperature=0, max_tiles=2, chat_template="internvl-hf",
        )  # fmt: skip
        message = [{"role": "user", "content": [image_block(PHOTOS / "chelsea.png"), "What?"]}]
        ids[kind] = llm.prompt_ids(message)
        request = _request_of(llm, message)
        engine = load_loop(tmp_path / kind)
        ((reply, _),) = decode(engine.loop, request)
        with torch.inference_mode():
            expected = source.generate(
                input_ids=torch.tensor([request.prompt_ids]),
                pixel_values=_pixels(request),
                do_sample=False,
                max_new_tokens=8,
                eos_token_id=None,
            )[0, len(request.prompt_ids) :].tolist()
        assert reply == expected[: len(reply)]
        assert len(reply) == 8 or reply[-1] in request.stop_ids
        llm.close()
    assert ids["original"] == ids["hf"]


def _request_of(llm, messages):
    backend = FixedBackend()
    llm.model_copy(update={"backend": backend}).invoke(messages)
    return backend.requests[0]


def _pixels(request):
    return torch.cat([torch.from_numpy(normalise(tiles)) for tiles in request.tiles])


@pytest.mark.parametrize("name", TINY)
def test_tiny_checkpoints_in_shards(name, tmp_path, loops):
    tensors = load_file(checkpoint_folder(name) / "model.safetensors")
    config = json.loads((checkpoint_folder(name) / "config.json").read_text("utf-8"))
    folder = write_original(tmp_path, config, tensors, shards=4)
    assert not (folder / "model.safetensors").exists()
    model = load(folder, dtype="float32")
    assert_same_weights(model, loops(name).model)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("auto", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        ("float32", torch.float32),
    ],
)
def test_dtypes(name, dtype, expected):
    model = load(checkpoint_folder(name), dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {expected}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", TINY)
def test_sixteen_bits_say_what_32_do_for_as_long_as_rounding_lets_them(name, dtype, loops):
    engine = load_loop(checkpoint_folder(name), dtype=dtype)
    context = engine.tokenizer.image_context_id
    tiles = np.random.default_rng(0).integers(0, 256, (1, 448, 448, 3), np.uint8)
    requests = [Request([5, 6, *[context] * 256, 7, 8 + n], [tiles], max_tokens=3,
                        top_logprobs=5) for n in range(3)]  # fmt: skip
    likeliest = {}
    for kind, loop in (("16", engine.loop), ("32", loops(name).loop)):
        begun = [loop.add(request) for request in requests]
        likeliest[kind] = [{one.token_id for one in first.top_logprobs} for _, first in begun]
        while loop.sequences:
            loop.step()
        assert [len(row.reply) for row, _ in begun] == [3, 3, 3]
    for one, other in zip(likeliest["16"], likeliest["32"], strict=True):
        assert len(one & other) >= 3


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
def test_weights_as_stored_stay_mapped_to_the_file():
    """No second copy: a tensor that is only renamed shares the file's own pages."""
    file = checkpoint_folder("qwen2") / "model.safetensors"
    model = load(checkpoint_folder("qwen2"), dtype="auto")
    converted = load(checkpoint_folder("qwen2"), dtype="float32")
    mapped = [
        range(*(int(end, 16) for end in line.split()[0].split("-")))
        for line in Path("/proc/self/maps").read_text("utf-8").splitlines()
        if line.endswith(str(file))
    ]

    def is_mapped(one):
        return any(one.get_input_embeddings().weight.data_ptr() in place for place in mapped)

    assert is_mapped(model)
    assert not is_mapped(converted)


@pytest.mark.parametrize("is_original", [True, False])
def test_the_automatic_dtype_is_that_of_the_config(is_original, tmp_path):
    """As in transformers, and as memory is estimated; as stored if the config states none."""
    source = random_model(original_config("qwen2"), dtype=torch.float32)
    if is_original:
        write_original(tmp_path, original_config("qwen2"), to_original(source.state_dict()))
    else:
        write_hf(tmp_path, source)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text("utf-8"))
    text = config["llm_config" if is_original else "text_config"]
    for section in (config, text):
        section.pop("dtype", None)
        section.pop("torch_dtype", None)
    for section, stated in ((config, "float16"), (text, "bfloat16"), (text, None)):
        section["torch_dtype"] = stated
        file.write_text(json.dumps(config), "utf-8")
        assert read_checkpoint(tmp_path).stored_dtype == stated
        model = load(tmp_path, dtype="auto")
        expected = getattr(torch, stated or "float32")
        assert {one.dtype for one in model.parameters()} == {expected}
        section["torch_dtype"] = None
    assert_same_weights(model, source)


def test_fields_of_generation_without_effect_are_named_once(tmp_path):
    for file in checkpoint_folder("qwen2").iterdir():
        (tmp_path / file.name).symlink_to(file)
    file = tmp_path / "generation_config.json"
    settings = json.loads(file.read_text("utf-8"))
    file.unlink()
    file.write_text(json.dumps({**settings, "num_beams": 4, "top_p": 1.0}), "utf-8")
    llm = ChatInternVL(model=str(tmp_path), max_tokens=1)
    with pytest.warns(UserWarning, match=r"have no effect here: num_beams = 4; replies"):
        llm.invoke("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm.invoke("x")
    llm.close()


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default"},
        {"rope_type": "dynamic", "factor": 2.0},
        {"type": "linear", "factor": 4.0},
    ],
)
def test_rope_as_transformers_5_saves_it(rope):
    def translated(**language):
        config = original_config("qwen2", llm_config=language)
        native = translate_config(config, image_token_id=1005, image_seq_length=256)
        return native.text_config.rope_parameters

    expected = translated(rope_theta=5e5, rope_scaling=rope)
    assert expected["rope_theta"] == 5e5
    older = original_config("qwen2", llm_config={})
    del older["llm_config"]["rope_theta"], older["llm_config"]["rope_scaling"]
    older["llm_config"]["rope_parameters"] = {**rope, "rope_theta": 5e5}
    native = translate_config(older, image_token_id=1005, image_seq_length=256)
    assert native.text_config.rope_parameters == expected


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, None, "auto"])
def test_device_maps(device_map, loops):
    model = load(checkpoint_folder("internlm2"), dtype="float32", device_map=device_map)
    assert_same_weights(model, loops("internlm2").model)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_offloading_to_disk_gives_the_same_reply(tmp_path, loops, scratch):
    """Weights that accelerate brings in only while their module runs."""
    engine = loops("internlm2")
    request = Request(engine.tokenizer.encode_text("some words"), max_tokens=5)
    (expected,) = decode(engine.loop, request)
    options = {"device_map": {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu",
                              "model.language_model": "disk", "lm_head": "cpu"}}  # fmt: skip
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in checkpoint_folder("internlm2").iterdir():
        (folder / file.name).symlink_to(file)
    offloaded = load_loop(folder, **options)
    assert offloaded.model.hf_device_map["model.language_model"] == "disk"
    assert decode(offloaded.loop, request) == [expected]
    (kept,) = scratch.iterdir()
    del offloaded
    gc.collect()
    assert not kept.exists()


def test_loading_leaves_nothing_behind(scratch, tmp_path):
    load(checkpoint_folder("qwen2"))
    assert not list(scratch.iterdir())
    (tmp_path / "broken").mkdir()
    with pytest.raises(CheckpointError):
        load(write_original(tmp_path / "broken", original_config(), {"a": torch.zeros(1)}))
    assert not list(scratch.iterdir())


def test_models_that_are_loaded_at_once_do_not_get_each_others_dtype(loops):
    """Transformers sets torch's default dtype for the whole process while it loads."""
    jobs = [(name, dtype) for name in TINY for dtype in ("float32", "bfloat16", "float16")]
    with ThreadPoolExecutor(4) as pool:
        models = pool.map(lambda job: load(checkpoint_folder(job[0]), dtype=job[1]), jobs)
    for (name, dtype), model in zip(jobs, models, strict=True):
        assert {one.dtype for one in model.parameters()} == {getattr(torch, dtype)}
        if dtype == "float32":
            assert_same_weights(model, loops(name).model)
    assert torch.get_default_dtype() == torch.float32


def test_hf_checkpoints_load_as_they_are(tmp_path):
    source = random_model(KINDS["InternVL3.5 (Qwen3)"])
    model = load(write_hf(tmp_path, source))
    assert type(model) is InternVLForConditionalGeneration
    assert_same_weights(model, source)


def test_what_is_loaded_can_be_saved_in_the_original_names(tmp_path):
    """The rows run backwards too; InternLM2's fused attention comes out as it went in."""
    folder = checkpoint_folder("internlm2")
    load(folder).save_pretrained(tmp_path)
    saved, stored = (
        load_file(tmp_path / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert saved.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(saved[name], tensor), name


@pytest.mark.parametrize("name", TINY)
def test_nothing_asks_on_standard_input_and_no_code_of_the_checkpoint_runs(name, tmp_path):
    """The remote-code files are there, and would end the process."""
    folder = tmp_path / name
    folder.mkdir()
    for file in checkpoint_folder(name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for module in (
        "configuration_internvl_chat", "modeling_internvl_chat", "tokenization_internlm2",
        "configuration_internlm2", "modeling_internlm2", "configuration_phi3", "modeling_phi3",
    ):  # fmt: skip
        (folder / f"{module}.py").write_text("import os; os._exit(66)", "utf-8")
    program = (
        "from langchain_internvl import ChatInternVL\n"
        f"llm = ChatInternVL(model={str(folder)!r}, temperature=0, max_tokens=3)\n"
        "print(len(llm.prompt_ids('Hello')), llm.invoke('Hello').usage_metadata['input_tokens'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.close(0)\n{program}"],
        capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counted, used = done.stdout.split()
    assert counted == used


def test_a_local_folder_is_never_looked_up_on_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("hub"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("hub"))
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), max_tokens=2)
    assert llm.invoke("Hello").usage_metadata["output_tokens"] > 0
    llm.close()
