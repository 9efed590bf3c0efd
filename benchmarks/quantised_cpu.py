"""8-bit and 4-bit weights on a CPU against float32: time, memory and agreement of tokens.

    python benchmarks/quantised_cpu.py [--hidden 1024] [--layers 8] [--tokens 24]

Two models: `nano`, whose weights are trained, on a page with text; and a random InternVL (Qwen2) in
the original format, which is large enough for its weights to dominate. Agreement is the share of
positions of the float32 reply at which the same token is the likeliest after the same tokens, so
one difference does not count again in all that follow.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from langchain_internvl import nano
from langchain_internvl.backends.transformers.config import translate_config
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.vision import encode_image
from langchain_internvl.backends.transformers.weights import InternVLChatModel
from langchain_internvl.checkpoint import Checkpoint, read_checkpoint
from langchain_internvl.errors import RequestError
from langchain_internvl.media.tiling import TileLimits
from langchain_internvl.prompting.tokenization import load_tokenizer

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "data" / "golden" / "tiny-internvl2-qwen2"
WAYS = {
    "float32": LoadOptions(dtype="float32"),
    "bfloat16": LoadOptions(dtype="bfloat16"),
    "8bit": LoadOptions(dtype="bfloat16", quantization="8bit"),
    "4bit": LoadOptions(dtype="bfloat16", quantization="4bit"),
}


def main() -> None:
    """Run all ways on both models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hidden", type=int, default=1024, help="width of the random model")
    parser.add_argument("--layers", type=int, default=8, help="its layers")
    parser.add_argument("--tokens", type=int, default=24, help="tokens of a reply")
    arguments = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="internvl-bench-") as name:
        write_random(Path(name), arguments.hidden, arguments.layers)
        for title, folder in (("nano", nano.FOLDER), ("random", Path(name))):
            compare(title, read_checkpoint(folder), arguments.tokens)


def write_random(folder: Path, hidden: int, layers: int) -> None:
    """Write a random checkpoint of transformers' own names with the tokenizer of the tiny Qwen2."""
    for file in TINY.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["llm_config"] |= {
        "hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 128,
    }  # fmt: skip
    torch.manual_seed(0)
    native = translate_config(config, image_token_id=1005, image_seq_length=256)
    model = InternVLChatModel(native)
    model.save_pretrained(folder, safe_serialization=True)  # in the original names
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


def compare(title: str, checkpoint: Checkpoint, tokens: int) -> None:
    """Print a table of one model."""
    tokenizer = load_tokenizer(checkpoint.folder)
    context = tokenizer.image_context_id
    limits = TileLimits(1, 1, checkpoint.tiles.tile_size)
    tiles = limits.cut(page())
    prompt = [*[context] * checkpoint.tokens_per_tile, *tokenizer.encode_text("\nRead the text.")]
    print(f"{title}: {len(prompt)} prompt tokens, {tokens} of the reply")
    print(f"{'':10}{'load s':>8}{'MB':>8}{'prefill s':>11}{'ms/token':>10}{'agreement':>11}")
    reference: list[int] = []
    for way, options in WAYS.items():
        started = time.perf_counter()
        try:
            model = load_model(checkpoint, context, options)
        except RequestError as error:
            print(f"{way:10}{error}")
            continue
        loading = time.perf_counter() - started
        reply, prefill, step = decode(model, tiles, prompt, tokens)
        reference = reference or reply
        likeliest = decode(model, tiles, prompt, tokens, forced=reference)[0]
        same = np.mean([one == other for one, other in zip(reference, likeliest, strict=True)])
        size = sum(one.nbytes for one in (*model.parameters(), *model.buffers())) / 1e6
        print(f"{way:10}{loading:8.2f}{size:8.0f}{prefill:11.2f}{step * 1000:10.1f}{same:11.0%}")


def page() -> Any:
    """An image with text."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only here

    image = Image.new("RGB", (448, 448), "white")
    ImageDraw.Draw(image).text((40, 60), "Total 42", fill="black", font_size=48)
    return image


def decode(
    model: Any,
    tiles: NDArray[np.uint8],
    prompt: list[int],
    count: int,
    forced: list[int] | None = None,
) -> tuple[list[int], float, float]:
    """The likeliest tokens, seconds of the prefill, and seconds of a step.

    Args:
        model: The model.
        tiles: Tiles of the image.
        prompt: Token ids.
        count: Number of tokens.
        forced: Tokens that are fed instead of the likeliest.
    """
    context = model.config.image_token_id
    with torch.inference_mode():
        started = time.perf_counter()
        embeddings = model.get_input_embeddings()(torch.tensor([prompt]))
        places = torch.tensor(prompt) == context
        embeddings[0, places] = encode_image(model, tiles).to(embeddings.dtype)
        out = model.model.language_model(inputs_embeds=embeddings, use_cache=True)
        likeliest = [int(model.lm_head(out.last_hidden_state[:, -1]).argmax())]
        prefill = time.perf_counter() - started
        started = time.perf_counter()
        for place in range(count - 1):
            fed = likeliest[-1] if forced is None else forced[place]
            out = model.model.language_model(
                input_ids=torch.tensor([[fed]]), past_key_values=out.past_key_values, use_cache=True
            )
            likeliest.append(int(model.lm_head(out.last_hidden_state[:, -1]).argmax()))
    return likeliest, prefill, (time.perf_counter() - started) / (count - 1)


if __name__ == "__main__":
    main()
