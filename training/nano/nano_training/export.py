"""Write a run's weights as a -hf checkpoint: `python -m nano_training.export RUN FOLDER`."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from langchain_internvl.media.tiling import IMAGENET_MEAN, IMAGENET_STD
from nano_training.model import build_config, build_tokenizer, in_model_of, layer_of
from nano_training.samples import MOST_TILES
from nano_training.sizes import TILE

_TIED = "lm_head.weight"


def export(run: Path, folder: Path, start: Path | None = None, share: float = 1.0) -> None:
    """Write the checkpoint, with the running average of the weights.

    Weights are stored in 16 bits, to be small, and loaded in 32, as the config says.

    Args:
        run: The folder of a run of `train`.
        folder: Where the checkpoint goes.
        start: An earlier checkpoint to mix with: what was forgotten comes back, what was learnt
            mostly stays.
        share: How much of the mixture is the run's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = torch.load(run / "state.pt", weights_only=True, map_location="cpu")
    tokenizer = build_tokenizer()
    config = build_config(tokenizer)
    config.architectures = ["InternVLForConditionalGeneration"]
    config.dtype = "float32"
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    average = state["average"]
    if start is not None:
        before = load_file(start / "model.safetensors")
        average = mixed(average, before, share)
    weights = {
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in average.items()
        if name != _TIED
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    eos = tokenizer.convert_tokens_to_ids("<|im_end|>")
    _write(folder / "generation_config.json", {
        "do_sample": False, "eos_token_id": eos, "pad_token_id": tokenizer.pad_token_id,
    })  # fmt: skip
    _write(folder / "preprocessor_config.json", {
        "image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": True,
        "min_patches": 1, "max_patches": MOST_TILES, "size": {"height": TILE, "width": TILE},
        "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
        "resample": 3, "rescale_factor": 1 / 255, "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD), "processor_class": "InternVLProcessor",
    })  # fmt: skip
    this = json.loads((run / "plan.json").read_text("utf-8"))
    earlier = this.pop("before")
    done: dict[str, object] = {"steps_done": state["step"], "minutes": round(state["seconds"] / 60)}
    if start is not None:
        done["share_in_mixture_with_an_earlier_one"] = share
        earlier_weights = (start / "model.safetensors").read_bytes()
        done["sha256_of_the_earlier_one"] = hashlib.sha256(earlier_weights).hexdigest()
    _write(folder / "training.json", {"runs": [*earlier, {**this, **done}]})


def mixed(
    weights: Mapping[str, Tensor], earlier: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Some weights in a mixture with earlier ones; layers that those lack are whole."""
    named = in_model_of(max(layer_of(name) for name in weights) + 1, earlier)
    return {
        name: named[name].float().lerp(tensor, share) if name in named else tensor
        for name, tensor in weights.items()
        if name != _TIED
    }


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=Path, help="an earlier -hf folder, to mix with")
    parser.add_argument("--share", type=float, default=0.75, help="of the run, in the mixture")
    arguments = parser.parse_args()
    share = 1.0 if arguments.start is None else arguments.share
    export(arguments.run, arguments.folder, arguments.start, share)


if __name__ == "__main__":
    main()
