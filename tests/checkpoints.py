"""Tiny random checkpoints of other kinds than the goldens, made when a test needs them."""

import json
import shutil

import torch
from golden import checkpoint_folder
from safetensors.torch import save_file
from transformers import InternVLForConditionalGeneration

from langchain_internvl.backends.transformers.config import translate_config

JINJA = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
"""The chat template of the -hf checkpoints (transformers, convert_internvl_weights_to_hf.py)."""

OLDER = {
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
"""Prefixes of native names, and those that transformers 4.52 saved."""

_LANGUAGE = {
    "attention_bias": False,
    "bos_token_id": 1000,
    "eos_token_id": 1002,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 1012,
}


def original_config(language_model="qwen3", **changes):
    """A `config.json` as InternVL2.5, 3 and 3.5 have it."""
    config = json.loads((checkpoint_folder("qwen2") / "config.json").read_text("utf-8"))
    config["llm_config"] = {**_LANGUAGE, "model_type": language_model}
    config["template"] = "internvl2_5"
    for key, value in changes.items():
        if isinstance(value, dict):
            config[key] = {**config[key], **value}
        else:
            config[key] = value
    return config


def random_model(config, *, dtype=torch.bfloat16):
    """A native model of an original config, with random weights."""
    torch.manual_seed(0)
    native = translate_config(config, image_token_id=1005, image_seq_length=256)
    model = InternVLForConditionalGeneration(native).to(dtype).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:  # larger than the default, so that logits are told apart
            torch.nn.init.normal_(parameter, std=0.2)
    model.tie_weights()
    return model


def to_original(state):
    """The tensors of a native model by their original names.

    Written out apart from the package's own rows, which run the other way.
    """
    tensors = {}
    for name, tensor in state.items():
        if name.startswith("model.vision_tower."):
            tensors |= _vision(name.removeprefix("model.vision_tower."), tensor, state)
        elif name.startswith("model.multi_modal_projector."):
            part, kind = name.removeprefix("model.multi_modal_projector.").split(".")
            number = {"layer_norm": 0, "linear_1": 1, "linear_2": 3}[part]
            tensors[f"mlp1.{number}.{kind}"] = tensor
        elif name.startswith("model.language_model."):
            has_router_bias = any(one.endswith("mlp.router.bias") for one in state)
            tensors |= _language(
                name.removeprefix("model.language_model."), tensor, is_gpt_oss=has_router_bias
            )
        else:
            assert name == "lm_head.weight"
            tensors["language_model.lm_head.weight"] = tensor
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def _language(name, tensor, *, is_gpt_oss):
    """Qwen3's experts have tensors of their own in original checkpoints; gpt-oss's do not."""
    prefix = "language_model.model."
    layer, is_fused, kind = name.rpartition(".mlp.experts.")
    if not is_fused or is_gpt_oss:
        return {prefix + name: tensor}
    parts = {}
    for expert, one in enumerate(tensor):
        names = ("gate_proj", "up_proj") if kind == "gate_up_proj" else (kind,)
        for part, weight in zip(names, one.chunk(len(names)), strict=True):
            parts[f"{prefix}{layer}.mlp.experts.{expert}.{part}.weight"] = weight
    return parts


def _vision(name, tensor, state):
    embeddings = {
        "embeddings.cls_token": "embeddings.class_embedding",
        "embeddings.position_embeddings": "embeddings.position_embedding",
        "embeddings.patch_embeddings.projection.weight": "embeddings.patch_embedding.weight",
        "embeddings.patch_embeddings.projection.bias": "embeddings.patch_embedding.bias",
    }
    if name in embeddings:
        return {"vision_model." + embeddings[name]: tensor}
    _, _, layer, rest = name.split(".", 3)
    prefix = f"vision_model.encoder.layers.{layer}."
    if rest.startswith("attention.q_proj."):
        kind = rest.rsplit(".", 1)[1]
        parts = [
            state[f"model.vision_tower.encoder.layer.{layer}.attention.{part}_proj.{kind}"]
            for part in "qkv"
        ]
        return {f"{prefix}attn.qkv.{kind}": torch.cat(parts)}
    if rest.startswith(("attention.k_proj.", "attention.v_proj.")):
        return {}
    for native, original in {
        "attention.projection_layer": "attn.proj",
        "attention.q_norm": "attn.q_norm",
        "attention.k_norm": "attn.k_norm",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "lambda_1": "ls1",
        "lambda_2": "ls2",
    }.items():
        if rest.startswith(native):
            return {prefix + original + rest.removeprefix(native): tensor}
    assert rest.startswith("mlp.fc")
    return {prefix + rest: tensor}


def write_original(folder, config, tensors, *, shards=1):
    """Write a checkpoint in the original format, with the tokenizer of the Qwen2 one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    _copy_tokenizer(folder)
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    index = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index}), "utf-8"
    )
    return folder


def write_hf(folder, model, *, template=JINJA, **preprocessor):
    """Write a native model as an -hf checkpoint."""
    model.save_pretrained(folder)
    _copy_tokenizer(folder)
    settings_file = folder / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text("utf-8"))
    settings.pop("chat_template", None)
    settings_file.write_text(json.dumps(settings), "utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), "utf-8")
    return folder


def _copy_tokenizer(folder):
    for file in checkpoint_folder("qwen2").iterdir():
        if (
            file.name not in {"config.json", "model.safetensors"}
            and not (folder / file.name).exists()
        ):
            shutil.copy(file, folder)
