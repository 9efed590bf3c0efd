"""The model: InternVL as transformers has it, very small."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from langchain_internvl.media.tiling import IMAGENET_MEAN, IMAGENET_STD
from nano_training import attention
from nano_training.sizes import PATCH, TILE, TOKENS

if TYPE_CHECKING:
    from nano_training.batches import Batch

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
    "<quad>",
    "</quad>",
)
"""Special tokens; their ids follow those of the 256 bytes."""

PLAIN = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
"""Tokens that decoding shows."""

VOCABULARY = 256 + len(CONTROL) + len(PLAIN)

_LONGEST = 8192
"""Longest prompt with its reply, in tokens: five pictures of seven tiles."""

_ROPE: Mapping[str, str | float] = MappingProxyType(
    {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 1.5,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1400,
    }
)
"""Positions, as transformers' `llama3` has them. Up to its twenty-third run the model saw its text
hardly ever more than 1,400 tokens behind a letter. Of pages of twelve tiles, whose text is up to
2,600 behind, these waves, slower where one takes more than 350 tokens, brought the loss from 0.44
to 0.30 without training, and cost other jobs little: of descriptions 0.0044 became 0.0054."""

JINJA = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The chat template of the -hf checkpoints."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, as byte-level BPE without merges, so any text can be said."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({piece: id_ for id_, piece in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in CONTROL])
    backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in PLAIN])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=JINJA,
        model_max_length=_LONGEST,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_config(tokenizer: PreTrainedTokenizerFast, **sizes: int) -> InternVLConfig:
    """The configuration.

    Args:
        tokenizer: Its tokenizer.
        **sizes: `width` (160), `vision_layers` (6) and `text_layers` (5), where they differ.
    """
    width = sizes.get("width", 160)
    ids: dict[str, int] = tokenizer.get_vocab()
    vision: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": sizes.get("vision_layers", 6),
        "num_attention_heads": width // 32,
        "intermediate_size": 4 * width,
        "image_size": [TILE, TILE],
        "patch_size": [PATCH, PATCH],
        "norm_type": "layer_norm",
        "attention_bias": True,
        "use_mean_pooling": False,
        "layer_scale_init_value": 1.0,
    }
    text: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": sizes.get("text_layers", 5),
        "num_attention_heads": width // 32,
        "num_key_value_heads": width // 32,
        "intermediate_size": 3 * width,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": _LONGEST,
        "rope_parameters": dict(_ROPE),
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=ids["<IMG_CONTEXT>"],
        image_seq_length=TOKENS,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )


_PLACE = 8.0
"""Length of position embeddings at first: about half of a white patch's."""

_PERIODS = (2.0, 1.0, 0.5, 0.25)


def _waves(side: int) -> Tensor:
    """Where each patch of a square is: float32 [side * side, 16], of unit length, row by row."""
    middles = (torch.arange(side) + 0.5) / side
    turns = middles[:, None] * (2 * math.pi / torch.tensor(_PERIODS))
    line = torch.cat([turns.sin(), turns.cos()], 1)
    both = torch.cat(
        [line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)], -1
    ).reshape(side * side, -1)
    length: Tensor = both.norm(dim=1, keepdim=True)
    return both / length


def build_model(config: InternVLConfig, seed: int = 0) -> InternVLForConditionalGeneration:
    """The model with random weights, but for position embeddings, which are waves."""
    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(config)
    with torch.no_grad():
        positions = model.model.vision_tower.embeddings.position_embeddings
        grid = _waves(TILE // PATCH)
        directions = torch.linalg.qr(torch.randn(positions.shape[-1], grid.shape[1])).Q
        positions[0, 1:] = _PLACE * grid @ directions.T
        for name, parameter in model.named_parameters():
            if "lambda" in name:  # transformers initialises them as if they were weights
                parameter.fill_(1.0)
    return model


_LAYER = re.compile(r"^(model\.language_model\.layers\.)(\d+)(\..*)$")
_ADDING = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
"""What a layer adds to what it reads is a product with these."""


def load(model: InternVLForConditionalGeneration, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a model; the table of embeddings is tied to the head.

    Where the model has more layers of language, the weights' last layer is the model's last. Layers
    that the weights lack add nothing until they are trained, so the model says what it said before
    it grew.
    """
    layers = len(model.model.language_model.layers)
    lacking = range(_last_layer(weights), layers - 1)
    weights = in_model_of(layers, weights)
    fresh = {n: tensor for n, tensor in model.state_dict().items() if layer_of(n) in lacking}
    for name, tensor in fresh.items():
        if name.endswith(_ADDING):
            fresh[name] = torch.zeros_like(tensor)
    tied = {"lm_head.weight": weights["model.language_model.embed_tokens.weight"]}
    model.load_state_dict({**fresh, **weights, **tied})


def in_model_of(layers: int, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that they have in a model of more layers: the last is the last.

    Raises:
        ValueError: The weights have more layers than the model.
    """
    last = _last_layer(weights)
    if last >= layers:
        raise ValueError(f"weights of {last + 1} layers of language in a model of {layers}")
    found = {}
    for name, tensor in weights.items():
        match = _LAYER.match(name)
        is_last = match is not None and int(match[2]) >= last
        found[f"{match[1]}{layers - 1}{match[3]}" if match and is_last else name] = tensor
    return found


def fresh_parameters(
    model: InternVLForConditionalGeneration, fresh: int
) -> list[tuple[str, nn.Parameter]]:
    """The parameters of the layers of language before the last one, of which so many are new."""
    layers = len(model.model.language_model.layers)
    new = range(layers - 1 - fresh, layers - 1)
    return [one for one in model.named_parameters() if layer_of(one[0]) in new]


def _last_layer(weights: Mapping[str, Tensor]) -> int:
    return max(layer_of(name) for name in weights)


def layer_of(name: str) -> int:
    """The layer of language that a parameter is of; -1: of none."""
    match = _LAYER.match(name)
    return -1 if match is None else int(match[2])


def speed_up(
    model: InternVLForConditionalGeneration,
    device: str = "cpu",
    *,
    sight: bool = True,
    whole: bool = True,
) -> bool:
    """Make training steps cheaper; losses agree to three digits (16-bit products).

    Where the vision tower learns too, and rows are short, PyTorch's attention for CPUs takes twice
    as long as plain matrices, and three times as long as compiled ones.

    Args:
        model: The model.
        device: Where it is trained.
        sight: Whether the vision tower learns; else another thread runs it, as it is.
        whole: Whether it learns from whole tiles too.

    Returns:
        Whether the language model now has the attention of `attention`.
    """
    language_model = model.model.language_model
    if device == "cpu":
        ALL_ATTENTION_FUNCTIONS.register("plain", attention.plain_attention)
    if device == "cpu" and not (sight and whole):  # compiled, these layers are no faster
        if sight:
            model.model.vision_tower.set_attn_implementation("plain")
        attention.register()
        language_model.set_attn_implementation(attention.NAME)
        return True
    if device == "cpu":
        model.set_attn_implementation("plain")
        if shutil.which("g++") is None:
            return False
    towers = [model.model.vision_tower.encoder.layer] if sight else []
    for layers in (*towers, language_model.layers):
        for layer in layers:
            layer.compile(dynamic=True)
    return False


def width_of(model: InternVLForConditionalGeneration) -> int:
    """Length of the features of tokens."""
    width: int = model.model.language_model.config.hidden_size
    return width


def see(model: InternVLForConditionalGeneration, tiles: Tensor, origin: tuple[int, int]) -> Tensor:
    """Features of tiles, or of windows: parts of a tile that cost less to look at.

    Args:
        model: The model.
        tiles: uint8 [n, height, width, 3], sides multiples of 32, at most 448.
        origin: Row and column of the patch where the window begins; even.

    Returns:
        [n, height * width / 32**2, width of the model].
    """
    pixels = tiles.permute(0, 3, 1, 2).float().div_(255)
    pixels.sub_(tiles.new_tensor(IMAGENET_MEAN, dtype=torch.float32)[:, None, None])
    pixels.div_(tiles.new_tensor(IMAGENET_STD, dtype=torch.float32)[:, None, None])
    tower = model.model.vision_tower
    embeddings = tower.embeddings
    patches = embeddings.patch_embeddings.projection(pixels)
    count, width, rows, columns = patches.shape
    side, (top, left) = TILE // PATCH, origin
    grid = embeddings.position_embeddings[:, 1:].reshape(side, side, width)
    places = grid[top : top + rows, left : left + columns].reshape(1, rows * columns, width)
    cls = embeddings.cls_token + embeddings.position_embeddings[:, :1]
    hidden = torch.cat([cls.expand(count, -1, -1), patches.flatten(2).mT + places], 1)
    hidden = tower.layernorm(tower.encoder(hidden)[0])[:, 1:]
    # Pixel shuffle as in transformers, which takes squares only.
    hidden = hidden.reshape(count, rows, columns // 2, 2 * width).permute(0, 2, 1, 3)
    hidden = hidden.reshape(count, columns // 2, rows // 2, 4 * width).permute(0, 2, 1, 3)
    features: Tensor = model.model.multi_modal_projector(hidden.reshape(count, -1, 4 * width))
    return features


def answer(
    model: InternVLForConditionalGeneration,
    batch: Batch,
    features: Tensor,
    *,
    by_segments: bool = False,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Logits of all tokens that are to be learnt.

    Args:
        model: The model.
        batch: What it is asked.
        features: The features of the batch's tiles, as `see` has them.
        by_segments: Whether the language model has the attention of `attention`.

    Returns:
        float [m, vocabulary]; the right ids, int64 [m]; and what each layer of the language model
        reads.
    """
    embedded = model.get_input_embeddings()(batch.ids)
    is_context = (batch.ids == model.config.image_token_id).unsqueeze(-1).expand_as(embedded)
    embedded = embedded.masked_scatter(is_context, features.to(embedded.dtype))
    language_model = model.model.language_model
    mask = batch.segments if by_segments and attention.pays(batch.segments) else batch.mask
    turns = language_model.rotary_emb(embedded, batch.positions)
    inputs = [embedded]
    *layers, last = language_model.layers
    for layer in layers:
        inputs.append(layer(inputs[-1], attention_mask=mask, position_embeddings=turns))
    learnt = batch.labels[:, 1:] >= 0
    is_needed = learnt.any(0) | (batch.segments[:, 1:] != 0).any(0)
    first = int(is_needed.nonzero()[0])
    hidden = attention.last_tokens(last, inputs[-1], mask, turns, first)
    logits = model.lm_head(language_model.norm(hidden[:, :-1])[learnt[:, first:]])
    return logits.float(), batch.labels[:, 1:][learnt], inputs
