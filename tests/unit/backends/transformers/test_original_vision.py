"""Details of the original vision tower that transformers has otherwise, against formulas."""

import json
import shutil

import numpy as np
import pytest
import torch
from checkpoints import original_config, random_model, write_hf
from golden import checkpoint_folder

from langchain_internvl.backends.transformers.cpu_products import use_cpu_products
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.vision import encode_tiles, normalise_on_device
from langchain_internvl.checkpoint import read_checkpoint

NOT_SAID = object()


def folder_with(folder, ps_version):
    shutil.copytree(checkpoint_folder("qwen2"), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["ps_version"]
    if ps_version is not NOT_SAID:
        config["ps_version"] = ps_version
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def merged(features, row, column):
    """The four neighbours that become one feature: rows from the top, columns from the left."""
    rows, columns = (2 * row, 2 * row + 1), (2 * column, 2 * column + 1)
    return torch.cat([features[x, y] for x in rows for y in columns])


@pytest.mark.parametrize(
    ("ps_version", "is_transposed"), [("v2", False), ("v1", True), (NOT_SAID, True)]
)
def test_the_order_of_features(ps_version, is_transposed, tmp_path):
    """`ps_version` v1, the default of the original config, leaves the grid transposed."""
    checkpoint = read_checkpoint(folder_with(tmp_path, ps_version))
    model = load_model(checkpoint, 1005, LoadOptions(dtype="float32"))
    tiles = np.random.default_rng(0).integers(0, 256, (2, 448, 448, 3), np.uint8)
    with torch.inference_mode():
        pixels = normalise_on_device(tiles, torch.device("cpu"))
        hidden = model.model.vision_tower(pixels).last_hidden_state[:, 1:].unflatten(1, (32, 32))
        places = [(row, column) for row in range(16) for column in range(16)]
        if is_transposed:
            places = [(column, row) for row, column in places]
        expected = torch.stack(
            [merged(tile, row, column) for tile in hidden for row, column in places]
        )
        expected = model.model.multi_modal_projector(expected)
        features = encode_tiles(model, [tiles])
    assert torch.allclose(features, expected, atol=1e-5)
    other = torch.stack([merged(tile, column, row) for tile in hidden for row, column in places])
    assert not torch.allclose(features, model.model.multi_modal_projector(other), atol=1e-2)


def test_hf_files_that_say_the_order_are_believed(tmp_path):
    """Their classes know "v2" only, which is also what they have if nothing is said."""
    source = random_model(original_config("qwen2"), dtype=torch.float32)
    assert read_checkpoint(write_hf(tmp_path / "v2", source)).pixel_shuffle == "v2"
    source.config.ps_version = "v1"
    checkpoint = read_checkpoint(write_hf(tmp_path / "v1", source))
    use_cpu_products(source)  # as in the loaded model
    model = load_model(checkpoint, 1005, LoadOptions(dtype="float32"))
    tiles = np.random.default_rng(0).integers(0, 256, (1, 448, 448, 3), np.uint8)
    with torch.inference_mode():
        features, plain = (encode_tiles(one, [tiles]).view(16, 16, -1) for one in (model, source))
        assert torch.equal(features, plain.transpose(0, 1))


def test_norms_of_queries_and_keys_take_the_eps_of_the_config(tmp_path):
    """Against RMSNorm written out: x / sqrt(mean(x^2) + eps) * weight."""
    shutil.copytree(checkpoint_folder("llama"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["vision_config"]["layer_norm_eps"] = 0.5
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    model = load_model(read_checkpoint(tmp_path), 1005, LoadOptions(dtype="float32"))
    values = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    for layer in model.model.vision_tower.encoder.layer:
        for norm in (layer.attention.q_norm, layer.attention.k_norm, layer.layernorm_before):
            root = (values.square().mean(-1, keepdim=True) + 0.5).sqrt()
            assert torch.allclose(norm(values), values / root * norm.weight, atol=1e-6)
