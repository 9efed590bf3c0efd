"""LoRA adapters: a random one against weights into which it was merged by hand."""

import json
import shutil
import sys

import pytest
import torch
from checkpoints import original_config, random_model, to_original, write_original
from golden import checkpoint_folder
from safetensors.torch import load_file, save_file

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.transformers import adapter_patterns
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    RequestError,
    UnsupportedCheckpointError,
)

ALPHA, RANK = 8, 4

MIXTURE = {
    "moe_intermediate_size": 48, "num_experts": 4, "num_experts_per_tok": 2,
    "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip

INTERNLM2 = [
    "language_model.model.layers.0.attention.wqkv", "language_model.model.layers.1.attention.wo",
    "language_model.model.layers.0.feed_forward.w1",
    "language_model.model.layers.1.feed_forward.w2",
]  # fmt: skip
QWEN2 = ["language_model.model.layers.0.self_attn.q_proj",
         "language_model.model.layers.1.mlp.down_proj"]  # fmt: skip
PHI3 = ["language_model.model.layers.0.self_attn.qkv_proj",
        "language_model.model.layers.1.mlp.gate_up_proj"]  # fmt: skip
VISION = ["vision_model.encoder.layers.0.attn.qkv", "vision_model.encoder.layers.1.mlp.fc1",
          "vision_model.encoder.layers.1.attn.proj", "mlp1.1"]  # fmt: skip

CASES = {
    "original names": ("internlm2", INTERNLM2, lambda name: f"base_model.model.{name}"),
    "the language model alone": (
        "internlm2", INTERNLM2,
        lambda name: "base_model.model." + name.removeprefix("language_model."),
    ),
    "wrap_llm_lora": (
        "internlm2", INTERNLM2,
        lambda name: name.replace("language_model.", "language_model.base_model.model.", 1),
    ),
    "the vision tower too": ("qwen2", QWEN2 + VISION, lambda name: f"base_model.model.{name}"),
    "wrap_backbone_lora": (
        "qwen2", VISION[:3], lambda name: "base_model.model." + name.removeprefix("vision_model."),
    ),
    "native names": (
        "qwen2", QWEN2,
        lambda name: "base_model.model." + name.replace("language_model.model.",
                                                        "model.language_model."),
    ),
    "phi3": ("phi3", PHI3, lambda name: f"base_model.model.{name}"),
}  # fmt: skip


def write_adapter(folder, tensors, **changes):
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def random_adapter(name, modules):
    """For each module its two matrices."""
    torch.manual_seed(0)
    weights = load_file(checkpoint_folder(name) / "model.safetensors")
    pairs = {}
    for module in modules:
        rows, columns = weights[f"{module}.weight"].shape
        pairs[module] = (torch.randn(RANK, columns), torch.randn(rows, RANK))
    return pairs


def merged_by_hand(name, pairs, folder, scale):
    shutil.copytree(checkpoint_folder(name), folder)
    file = folder / "model.safetensors"
    weights = {key: tensor.float() for key, tensor in load_file(file).items()}
    for module, (down, up) in pairs.items():
        weights[f"{module}.weight"] += scale * up @ down
    save_file(weights, file, {"format": "pt"})
    return folder


def load(folder, **options):
    return load_model(read_checkpoint(folder), 1005, LoadOptions(dtype="float32", **options))


@pytest.mark.parametrize("suffix", [".weight", ".default.weight"])
@pytest.mark.parametrize("case", CASES)
def test_a_random_adapter_is_the_merged_weights(case, suffix, tmp_path):
    name, modules, written = CASES[case]
    pairs = random_adapter(name, modules)
    tensors = {}
    for module, (down, up) in pairs.items():
        tensors[f"{written(module)}.lora_A{suffix}"] = down
        tensors[f"{written(module)}.lora_B{suffix}"] = up
    adapter = write_adapter(tmp_path / "adapter", tensors)
    adapted = load(checkpoint_folder(name), adapter=str(adapter))
    expected = load(merged_by_hand(name, pairs, tmp_path / "merged", ALPHA / RANK))
    plain = load(checkpoint_folder(name))
    wanted, before = expected.state_dict(), plain.state_dict()
    changed = 0
    for key, tensor in adapted.state_dict().items():
        assert torch.allclose(tensor, wanted[key], atol=1e-5), key
        changed += not torch.equal(tensor, before[key])
    assert changed >= len(modules)


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_beside_the_weights_says_what_a_merged_one_does(case, tmp_path):
    pytest.importorskip("peft")
    name, modules, written = CASES[case]
    tensors = {}
    for module, (down, up) in random_adapter(name, modules).items():
        tensors[f"{written(module)}.lora_A.weight"] = down
        tensors[f"{written(module)}.lora_B.weight"] = up
    adapter = str(write_adapter(tmp_path / "adapter", tensors))
    folder = checkpoint_folder(name)
    beside, merged, plain = (
        load(folder, adapter=adapter, merge_adapter=False), load(folder, adapter=adapter),
        load(folder),
    )  # fmt: skip
    pixels = torch.randn(1, 3, 448, 448, generator=torch.Generator().manual_seed(0))
    logits, features = {}, {}
    for kind, model in (("beside", beside), ("merged", merged), ("plain", plain)):
        with torch.inference_mode():
            logits[kind] = model(input_ids=torch.arange(10, 30)[None]).logits
            features[kind] = model.get_image_features(pixels).pooler_output
    for values in (logits, features):
        largest = values["merged"].abs().max()
        assert torch.allclose(values["beside"], values["merged"], atol=1e-3 * float(largest))
    changed = logits if any("language_model" in one for one in modules) else features
    assert not torch.allclose(changed["beside"], changed["plain"], atol=2e-2)
    kept = {key.replace(".base_layer", ""): one for key, one in beside.state_dict().items()}
    assert all(torch.equal(kept[key], one) for key, one in plain.state_dict().items())


def test_an_adapter_beside_quantised_weights(tmp_path):
    pytest.importorskip("peft")
    adapter, _ = one_layer(tmp_path / "adapter")
    folder = str(checkpoint_folder("qwen2"))
    settings = {"quantization": "8bit", "temperature": 0, "max_tokens": 3, "dtype": "bfloat16"}
    llm = ChatInternVL(model=folder, adapter=str(adapter), merge_adapter=False, **settings)
    assert llm.invoke("x").usage_metadata["output_tokens"] > 0
    llm.close()


def test_experts_of_a_mixture(tmp_path):
    """In their original names; transformers keeps all experts of a layer in one tensor."""
    config = original_config("qwen3_moe", llm_config=MIXTURE)
    weights = to_original(random_model(config, dtype=torch.float32).state_dict())
    write_original(tmp_path / "plain", config, weights)
    torch.manual_seed(0)
    tensors = {}
    modules = ["layers.0.mlp.experts.0.gate_proj", "layers.0.mlp.experts.3.up_proj",
               "layers.1.mlp.experts.2.down_proj", "layers.1.self_attn.q_proj"]  # fmt: skip
    for module in modules:
        key = f"language_model.model.{module}.weight"
        up, down = (
            torch.randn(weights[key].shape[0], RANK),
            torch.randn(RANK, weights[key].shape[1]),
        )
        tensors[f"base_model.model.language_model.model.{module}.lora_A.weight"] = down
        tensors[f"base_model.model.language_model.model.{module}.lora_B.weight"] = up
        weights[key] = weights[key] + ALPHA / RANK * up @ down
    write_original(tmp_path / "merged", config, weights)
    adapter = str(write_adapter(tmp_path / "adapter", tensors))
    adapted = load(tmp_path / "plain", adapter=adapter).state_dict()
    for key, wanted in load(tmp_path / "merged").state_dict().items():
        assert torch.allclose(adapted[key], wanted, atol=1e-5), key
    pytest.importorskip("peft")
    with pytest.raises(UnsupportedCheckpointError, match="merge_adapter=True"):
        load(tmp_path / "plain", adapter=adapter, merge_adapter=False)


@pytest.mark.parametrize("part", ["gate_proj", "up_proj", "down_proj"])
def test_experts_of_another_size(part, tmp_path):
    """Matrices of half the rows; they were added to the first of them."""
    config = original_config("qwen3_moe", llm_config=MIXTURE)
    weights = to_original(random_model(config, dtype=torch.float32).state_dict())
    write_original(tmp_path / "plain", config, weights)
    module = f"language_model.model.layers.0.mlp.experts.1.{part}"
    rows, columns = weights[f"{module}.weight"].shape
    adapter = write_adapter(
        tmp_path / "adapter",
        {f"{module}.lora_A.weight": torch.ones(RANK, columns),
         f"{module}.lora_B.weight": torch.ones(rows // 2, RANK)},
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="has shape"):
        load(tmp_path / "plain", adapter=str(adapter))


def one_layer(folder, **changes):
    pairs = random_adapter("qwen2", QWEN2[:1])
    ((module, (down, up)),) = pairs.items()
    tensors = {f"base_model.model.{module}.lora_A.weight": down,
               f"base_model.model.{module}.lora_B.weight": up}  # fmt: skip
    return write_adapter(folder, tensors, **changes), pairs


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({"use_rslora": True}, ALPHA / RANK**0.5),
        ({"alpha_pattern": {"q_proj": 2}}, 2 / RANK),
        ({"alpha_pattern": {r"layers\.\d+\.self_attn\.(q|v)_proj": 2, "q_proj": 3}}, 2 / RANK),
        ({"alpha_pattern": {"roj": 2, "^q_proj": 3, "layers.1.*": 4, "[qk]_proj": 5}}, 5 / RANK),
        ({"alpha_pattern": {r".*\.layers\.(0|1)\..*(q|k|v)_proj": 2}}, 2 / RANK),
        ({"init_lora_weights": "gaussian", "layer_replication": None}, ALPHA / RANK),
        ({"init_lora_weights": True, "alora_invocation_tokens": None}, ALPHA / RANK),
        ({"alpha_pattern": {"k_proj": 2}, "rank_pattern": {"q_proj": RANK}, "r": 64}, ALPHA / RANK),
    ],
)
def test_scales(changes, scale, tmp_path):
    adapter, pairs = one_layer(tmp_path / "adapter", **changes)
    adapted = load(checkpoint_folder("qwen2"), adapter=str(adapter)).state_dict()
    expected = load(merged_by_hand("qwen2", pairs, tmp_path / "merged", scale)).state_dict()
    assert all(torch.allclose(adapted[key], expected[key], atol=1e-5) for key in expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias='all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4'"),
        ({"init_lora_weights": "OLoRA"}, "init_lora_weights='OLoRA'"),
        ({"init_lora_weights": "corda"}, "init_lora_weights='corda'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights='loftq'"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights='lora_ga'"),
        ({"alora_invocation_tokens": [15, 16]}, "alora_invocation_tokens=.15, 16."),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication"),
        ({"use_qalora": True}, "use_qalora"),
        ({"lora_alpha": "many"}, "lora_alpha is 'many'"),
        ({"alpha_pattern": {"(q_proj": 2}}, r"alpha_pattern has the key '\(q_proj', .* no regular"),
        ({"rank_pattern": {"*": 2}}, r"rank_pattern has the key '\*', which is no regular"),
        (
            {"alpha_pattern": {"(a+)+b": 2}},
            r"alpha_pattern has the key '\(a\+\)\+b', which repeats",
        ),
        ({"rank_pattern": {"(a|a)*": 2}}, "rank_pattern has the key .* forever"),
        ({"alpha_pattern": {"{(a+)*}b": 2}}, "repeats a group: matching could take forever"),
        ({"alpha_pattern": {"[[](a+)*]": 2}}, "has brackets in a character class"),
        ({"alpha_pattern": {".*.*.*.*x": 2}}, "repeats .* in a row"),
        ({"alpha_pattern": {"(.*.*.*)" + "a{0,3}" * 8 + "z": 2}}, "has 3 repeats .* forever"),
        ({"alpha_pattern": {"a{0,3}" * 4 + "z": 2}}, "has 0 repeats and 256 choices in a row"),
        ({"rank_pattern": {"(a|aa|a)" * 4 + "z": 2}}, "has 0 repeats and 81 choices in a row"),
        ({"alpha_pattern": {"x" * 2000: 2}}, "has more than 1024 characters"),
        ({"alpha_pattern": {f"x{one}": 2 for one in range(5000)}}, "has more than 4096 keys"),
        ({"alpha_pattern": {"q_proj": "2"}}, r"alpha_pattern\['q_proj'\]: lora_alpha is '2'"),
    ],
)
def test_other_kinds_are_refused(changes, words, tmp_path):
    adapter, _ = one_layer(tmp_path / "adapter", **changes)
    with pytest.raises(CheckpointError, match=words):
        load(checkpoint_folder("qwen2"), adapter=str(adapter))


def test_the_time_for_patterns_is_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr(adapter_patterns, "_SECONDS", 0.0)
    adapter, _ = one_layer(tmp_path / "adapter", alpha_pattern={"q_proj": 2})
    with pytest.raises(CheckpointError, match="matching alpha_pattern takes more than 0 s"):
        load(checkpoint_folder("qwen2"), adapter=str(adapter))


def test_patterns_are_matched_with_names_of_the_model_only(monkeypatch, tmp_path):
    monkeypatch.setattr(adapter_patterns.AlphaPatterns, "find", lambda *_: 1 / 0)
    tensors = {f"{'a' * 900}.lora_A.weight": torch.zeros(4, 64),
               f"{'a' * 900}.lora_B.weight": torch.zeros(64, 4)}  # fmt: skip
    adapter = write_adapter(tmp_path / "adapter", tensors, alpha_pattern={".*a.*z": 2})
    with pytest.raises(CheckpointError, match="is no layer of this model"):
        load(checkpoint_folder("qwen2"), adapter=str(adapter))


@pytest.mark.parametrize(
    ("tensors", "error", "words"),
    [
        ({"x.lora_A.weight": torch.zeros(4, 64), "x.lora_B.weight": torch.zeros(64, 4)},
         CheckpointError, "x is no layer"),
        ({"x.lora_A.weight": torch.zeros(4, 64)}, CheckpointError, "lora_A and lora_B"),
        ({"x.lora_A.weight": torch.zeros(4, 64), "x.lora_B.weight": torch.zeros(64, 5)},
         CheckpointError, "other ranks"),
        ({f"{QWEN2[0]}.lora_A.weight": torch.zeros(4, 8),
          f"{QWEN2[0]}.lora_B.weight": torch.zeros(64, 4)}, CheckpointError, "has shape"),
        ({"lm_head.weight": torch.zeros(4)}, UnsupportedCheckpointError, "no LoRA's"),
    ],
)  # fmt: skip
def test_adapters_that_do_not_fit(tensors, error, words, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", tensors)
    with pytest.raises(error, match=words):
        load(checkpoint_folder("qwen2"), adapter=str(adapter))


def test_missing_files(tmp_path, monkeypatch):
    with pytest.raises(CheckpointNotFoundError, match=r"adapter_config\.json"):
        load(checkpoint_folder("qwen2"), adapter=str(tmp_path))
    with pytest.raises(CheckpointNotFoundError, match="neither a folder nor an id"):
        load(checkpoint_folder("qwen2"), adapter="no_such_folder")
    adapter, _ = one_layer(tmp_path / "adapter")
    with pytest.raises(RequestError, match="quantised"):
        load(checkpoint_folder("qwen2"), adapter=str(adapter), quantization="8bit")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"internvl\[adapters\]"):
        load(checkpoint_folder("qwen2"), adapter=str(adapter), merge_adapter=False)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"adapter_model\.safetensors"):
        load(checkpoint_folder("qwen2"), adapter=str(adapter))


def test_each_adapter_has_an_engine_of_its_own(tmp_path):
    adapter, _ = one_layer(tmp_path / "adapter", lora_alpha=400)
    folder = str(checkpoint_folder("qwen2"))
    settings = {"model": folder, "temperature": 0, "max_tokens": 12, "dtype": "float32"}
    plain = ChatInternVL(**settings)
    adapted = ChatInternVL(**settings, adapter=str(adapter))
    before = plain.invoke("x").content
    assert adapted.invoke("x").content != before
    assert plain.invoke("x").content == before
    assert plain._get_llm_string() != adapted._get_llm_string()
    plain.close()
    adapted.close()


def test_an_adapter_is_known_by_what_it_holds(tmp_path, monkeypatch):
    """By no spelling of its folder, and not when its files have changed."""
    settings = {"model": str(checkpoint_folder("qwen2")), "temperature": 0, "max_tokens": 12,
                "dtype": "float32"}  # fmt: skip
    folders = [tmp_path / name / "adapter" for name in "ab"]
    for folder, alpha in zip(folders, (40, 400), strict=True):
        folder.parent.mkdir()
        one_layer(folder, lora_alpha=alpha)
    wanted = []
    for folder in folders:
        llm = ChatInternVL(**settings, adapter=str(folder))
        wanted.append(llm.invoke("x").content)
        llm.close()
    assert wanted[0] != wanted[1]
    monkeypatch.chdir(folders[0].parent)
    first = ChatInternVL(**settings, adapter="adapter")
    alike = ChatInternVL(**settings, adapter=str(folders[0]))
    assert [llm.invoke("x").content for llm in (first, alike)] == wanted[:1] * 2
    assert first._engines.stats == alike._engines.stats  # one engine
    monkeypatch.chdir(folders[1].parent)
    second = ChatInternVL(**settings, adapter="adapter")
    assert second.invoke("x").content == wanted[1]
    assert first.invoke("x").content == wanted[0]
    one_layer(folders[1], lora_alpha=40)  # trained again
    third = ChatInternVL(**settings, adapter="adapter")
    assert third.invoke("x").content == wanted[0]
    assert second.invoke("x").content == wanted[1]
    for llm in (first, alike, second, third):
        llm.close()
