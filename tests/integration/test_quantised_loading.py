"""Weights that bitsandbytes quantises while they are loaded."""

import sys

import numpy as np
import pytest
import torch
from checkpoints import original_config, random_model, to_original, write_hf, write_original
from golden import checkpoint_folder
from support import decode, load_loop

from langchain_internvl import ChatInternVL, nano
from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.bits import quantization_config
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import RequestError

CONFIG = original_config("qwen3")


def load(folder, **options):
    return load_model(read_checkpoint(folder), 1005, LoadOptions(**options))


@pytest.mark.parametrize(("bits", "kind"), [("8bit", "Linear8bitLt"), ("4bit", "Linear4bit")])
def test_quantised_while_loading(bits, kind, loops, tmp_path):
    """Only the language model, and straight from the original tensors: as from an -hf copy."""
    source = random_model(CONFIG)
    write_original(tmp_path / "original", CONFIG,
                   to_original(source.state_dict()))  # fmt: skip
    write_hf(tmp_path / "hf", source)
    one, other = (load(tmp_path / name, quantization=bits) for name in ("original", "hf"))
    quantised = [name for name, part in one.named_modules() if type(part).__name__ == kind]
    assert len(quantised) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in quantised)
    loaded, wanted = one.state_dict(), other.state_dict()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in wanted.items())
    engine = load_loop(tmp_path / "original", dtype="bfloat16", quantization=bits)
    request = Request([1, 2, *[engine.tokenizer.image_context_id] * 256, 3],
                      [np.zeros((1, 448, 448, 3), np.uint8)], max_tokens=3)  # fmt: skip
    ((reply, _),) = decode(engine.loop, request)
    assert len(reply) == 3


def test_bitsandbytes_logs_its_cast_once_and_not_for_each_product(caplog):
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), quantization="8bit", max_tokens=3)
    llm.invoke("Hi")
    casts = [one for one in caplog.messages if "inputs will be cast" in one]
    assert len(casts) <= 1
    llm.close()


def test_four_bits_of_widths_that_its_cpu_kernel_cannot_take():
    with pytest.raises(RequestError, match=r"multiples of 64; .* has \d+. Use '8bit'"):
        load(nano.FOLDER, quantization="4bit", device_map="cpu")


def test_what_bitsandbytes_is_told():
    eight, four = quantization_config("8bit"), quantization_config("4bit", "float16")
    assert eight.load_in_8bit
    assert not eight.load_in_4bit
    assert four.load_in_4bit
    assert (four.bnb_4bit_quant_type, four.bnb_4bit_compute_dtype) == ("nf4", torch.float16)
    assert quantization_config("4bit").bnb_4bit_compute_dtype == torch.bfloat16
    for config in (eight, four):
        assert config.llm_int8_skip_modules == [
            "model.vision_tower", "model.multi_modal_projector", "lm_head",
        ]  # fmt: skip
    assert quantization_config(None) is None
    with pytest.raises(RequestError, match="3bit"):
        quantization_config("3bit")


def test_a_missing_bitsandbytes_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ImportError, match=r"langchain-internvl\[quantization\]"):
        load(checkpoint_folder("qwen2"), quantization="8bit")
