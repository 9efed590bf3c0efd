"""Peak memory of loading a large original checkpoint, over the size of its files.

Makes a random InternVL2 checkpoint in the original format (InternLM2, so that the attention is
converted; sharded; bfloat16), and loads it in processes of its own: as stored, in float32, and,
as a peer, by reading all tensors and converting a copy.

    python benchmarks/load_memory.py --gigabytes 2.5

Anonymous memory is what a process really takes; parameters that stay mapped to the file can be
dropped by the system at any time and count as resident only while they are touched.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "data" / "golden" / "tiny-internvl2-internlm2"
HIDDEN, INNER, HEADS, KV_HEADS, VOCABULARY = 2048, 8192, 16, 8, 92553
SHARD_BYTES = 500_000_000


def main() -> None:
    """Make the checkpoint, load it in every way, print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=2.5, help="size of the checkpoint")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        report(arguments.load, Path(arguments.folder))
        return
    with tempfile.TemporaryDirectory(prefix="internvl-bench-") as name:
        folder = Path(name)
        size = write_checkpoint(folder, arguments.gigabytes * 1e9)
        shards = len(list(folder.glob("*.safetensors")))
        print(f"checkpoint: {size / 1e9:.2f} GB in {shards} shards, bfloat16")
        print(f"{'':32}{'seconds':>9}{'anonymous':>11}{'resident':>10}   (peak over size of files)")
        for way in ("auto", "float32", "copy"):
            peak = peak_of(way, folder)
            print(
                f"{WAYS[way]:32}{peak.seconds:9.1f}{peak.anonymous / size:11.2f}"
                f"{peak.resident / size:10.2f}"
            )


@dataclass(frozen=True)
class Peak:
    """Seconds of a load, and peaks of its process in bytes, beyond those before it."""

    seconds: float
    anonymous: int
    resident: int


def peak_of(way: str, folder: Path) -> Peak:
    """Load a checkpoint in a process of its own; see `WAYS`."""
    run = [sys.executable, __file__, "--load", way, "--folder", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603 - this file
        run, capture_output=True, text=True, check=True, env=environment
    )
    return Peak(*json.loads(done.stdout.splitlines()[-1]))


WAYS = {
    "auto": "as stored (bfloat16)",
    "float32": "in float32 (twice the size)",
    "copy": "peer: read all, convert a copy",
}


def write_checkpoint(folder: Path, size: float) -> int:
    """Write random tensors in the original names; returns the bytes written."""
    import torch  # noqa: PLC0415 - only the processes that need it pay for it
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    for file in TINY.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    per_layer = 2 * (2 * HIDDEN * HIDDEN + HIDDEN * HIDDEN * 2 * KV_HEADS // HEADS
                     + 3 * HIDDEN * INNER)  # fmt: skip
    layers = max(1, round((size - 4 * VOCABULARY * HIDDEN) / per_layer))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["llm_config"] |= {
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "num_hidden_layers": layers, "vocab_size": VOCABULARY,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    tensors = {
        name: tensor
        for name, tensor in load_file(TINY / "model.safetensors").items()
        if not name.startswith("language_model.")
    }
    tensors |= {
        "mlp1.1.weight": torch.zeros(HIDDEN, 256), "mlp1.1.bias": torch.zeros(HIDDEN),
        "mlp1.3.weight": torch.zeros(HIDDEN, HIDDEN), "mlp1.3.bias": torch.zeros(HIDDEN),
    }  # fmt: skip
    head = HIDDEN // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "language_model.model.tok_embeddings.weight": (VOCABULARY, HIDDEN),
        "language_model.output.weight": (VOCABULARY, HIDDEN),
        "language_model.model.norm.weight": (HIDDEN,),
    }
    for layer in range(layers):
        prefix = f"language_model.model.layers.{layer}."
        shapes |= {
            f"{prefix}attention.wqkv.weight": ((HEADS + 2 * KV_HEADS) * head, HIDDEN),
            f"{prefix}attention.wo.weight": (HIDDEN, HIDDEN),
            f"{prefix}feed_forward.w1.weight": (INNER, HIDDEN),
            f"{prefix}feed_forward.w2.weight": (HIDDEN, INNER),
            f"{prefix}feed_forward.w3.weight": (INNER, HIDDEN),
            f"{prefix}attention_norm.weight": (HIDDEN,),
            f"{prefix}ffn_norm.weight": (HIDDEN,),
        }
    index: dict[str, str] = {}
    shard: dict[str, Any] = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    written = 0

    def flush() -> None:
        nonlocal written
        file = folder / f"model-{len(set(index.values())) + 1:05}.safetensors"
        save_file(shard, file, metadata={"format": "pt"})
        index.update(dict.fromkeys(shard, file.name))
        written += file.stat().st_size
        shard.clear()

    for name, shape in shapes.items():
        shard[name] = torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            flush()
    flush()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index}), "utf-8"
    )
    return written


def report(way: str, folder: Path) -> None:
    """Load in this process; prints seconds and peaks of anonymous and resident memory, in bytes."""
    from langchain_internvl.backends.transformers.loading import (  # noqa: PLC0415
        LoadOptions,
        load_model,
    )
    from langchain_internvl.checkpoint import read_checkpoint  # noqa: PLC0415

    before = memory()
    peaks = [0, 0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            now = memory()
            peaks[:] = [max(peak, value) for peak, value in zip(peaks, now, strict=True)]

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    if way == "copy":
        model: Any = convert_a_copy(folder)
    else:
        model = load_model(read_checkpoint(folder), 1026, LoadOptions(dtype=way))
        # Touch every parameter once, as a first prompt would.
        model = sum(float(parameter.sum()) for parameter in model.parameters())
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    del model
    print(json.dumps([seconds, *(peak - base for peak, base in zip(peaks, before, strict=True))]))


def convert_a_copy(folder: Path) -> dict[str, Any]:
    """What conversion scripts do: all tensors in memory, each converted to another."""
    from safetensors.torch import load_file  # noqa: PLC0415

    tensors: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return {name: tensor.clone() for name, tensor in tensors.items()} | tensors


def memory() -> tuple[int, int]:
    """Anonymous and resident memory of this process, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS"))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
