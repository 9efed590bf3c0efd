"""Tiles to features."""

import numpy as np
import pytest
import torch

from langchain_internvl.backends.transformers import vision
from langchain_internvl.backends.transformers.devices import execution_device
from langchain_internvl.backends.transformers.vision import encode_tiles, normalise_on_device
from langchain_internvl.media.tiling import PixelScale, normalise


@pytest.fixture
def tiles():
    return np.random.default_rng(0).integers(0, 256, (5, 448, 448, 3), np.uint8)


def test_normalising_on_the_device_is_the_same_to_the_bit(tiles):
    tensor = normalise_on_device(tiles, torch.device("cpu"))
    assert tensor.is_contiguous()
    assert np.array_equal(tensor.numpy(), normalise(tiles))


def test_bytes_have_the_factor_of_the_scale(tiles):
    scale = PixelScale((0.5, 1.0, 2.0), (0.25, 0.5, 4.0), factor=0.125)
    tensor = normalise_on_device(tiles, torch.device("cpu"), scale)
    expected = (tiles * 0.125 - scale.mean) / scale.std
    assert np.allclose(tensor.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_normalising_does_not_depend_on_the_default_dtype(tiles):
    """Transformers changes it for the whole process while it loads another model."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        tensor = normalise_on_device(tiles, torch.device("cpu"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(tensor.numpy(), normalise(tiles))


def test_features_do_not_depend_on_how_tiles_are_grouped(tiles, loops, monkeypatch):
    model = loops("internlm2").model
    with torch.inference_mode():
        whole = encode_tiles(model, [tiles])
        parts = encode_tiles(model, [tiles[:2], tiles[2:]])
        monkeypatch.setattr(vision, "TILES_AT_ONCE", 2)
        few = encode_tiles(model, [tiles])
    assert whole.shape == (5 * 256, 64)
    assert torch.equal(whole, parts)
    assert torch.allclose(whole, few, atol=1e-5)


def test_no_images_no_features(loops):
    assert encode_tiles(loops("internlm2").model, []) is None


def test_where_a_module_computes():
    module = torch.nn.Linear(1, 1)
    assert execution_device(module) == torch.device("cpu")
    module._hf_hook = type("Hook", (), {"execution_device": "meta"})()
    assert execution_device(module) == torch.device("meta")
    assert execution_device(torch.nn.Sequential(module)) == torch.device("meta")
