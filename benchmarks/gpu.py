"""The engine on a GPU: what must hold, and tokens a second, in one file.

    python benchmarks/gpu.py [--device cuda] [--small] [--only CHECK ...] [--output FILE]

Needs torch and the package with its wheels; the recorded replies are checked in a checkout only.
The checks use the embedded model and its replies on the CPU in float32; the speed is that of a
random checkpoint with the shape of an 8B model (Qwen2-7B's) beside `generate` and the memory's
bandwidth. Every check is run, and its result or error goes into a JSON file. `--device cpu --small`
runs the same code on any machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image, ImageDraw
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig
from transformers.models.qwen2 import Qwen2Config

from langchain_internvl import ChatInternVL, __version__, image_block
from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.next_tokens import Failure
from langchain_internvl.errors import EngineMemoryError

RESULTS = Path(__file__).parent / "results"
TESTS = Path(__file__).parents[1] / "tests"
Found = dict[str, Any]


class SkippedError(Exception):
    """A check that this machine cannot run, with the reason."""


class WrongResultError(AssertionError):
    """A check whose result is not what it must be."""


def require(condition: object, what: str) -> None:
    """Raise `WrongResultError` unless a condition holds."""
    if not condition:
        raise WrongResultError(what)


class Checks:
    """The checks of one device.

    Args:
        device: "cuda" or "cpu".
        small: Whether to use small sizes.
    """

    def __init__(self, device: str, *, small: bool) -> None:
        self.device = device
        self.small = small

    @contextmanager
    def nano(
        self, dtype: str = "float32", device: str = "", **options: Any
    ) -> Iterator[ChatInternVL]:
        """The embedded model, closed afterwards."""
        settings: Any = {"temperature": 0, "max_tokens": 24, "dtype": dtype, **options}
        llm = ChatInternVL(model="nano", device_map=device or self.device, **settings)
        try:
            yield llm
        finally:
            llm.close()

    def replies(self, llm: ChatInternVL) -> list[str]:
        """Greedy replies to images and texts, asked one by one and together."""
        questions: list[Any] = [[question(number)] for number in range(3)]
        questions += [[HumanMessage(f"Hello {number}")] for number in range(3)]
        alone = [str(llm.invoke(one).content) for one in questions]
        together = [str(one.content) for one in llm.batch(questions)]
        if llm.dtype == "float32":
            require(together == alone, "rows together differ from rows alone")
        return alone

    def goldens(self) -> Found:
        """Recorded replies of the reference implementation, float32."""
        if not (TESTS / "reference.py").exists():
            raise SkippedError("the recorded replies are in a checkout only")
        sys.path.insert(0, str(TESTS))
        golden, reference, support = map(import_module, ("golden", "reference", "support"))
        wrong, count = [], 0
        for name in golden.TINY[:1] if self.small else golden.TINY:
            engine = support.load_loop(golden.checkpoint_folder(name), device_map=self.device)
            cases = [case for case in reference.SINGLE if reference.model_of(case) == name]
            for case in cases[:3] if self.small else cases:
                request = reference.reference_request(case, engine)
                ((ids, _),) = support.decode(engine.loop, request)
                count += 1
                if ids != reference.until_stop(case):
                    wrong.append(case["id"])
        require(not wrong, f"other tokens in {wrong}")
        return {"cases": count}

    def greedy(self) -> Found:
        """Replies in float32 are those of the CPU; bfloat16 is compared, not required."""
        with self.nano(device="cpu") as llm:
            expected = self.replies(llm)
        with self.nano() as llm:
            require(self.replies(llm) == expected, "other replies than the CPU's")
        with self.nano("bfloat16") as llm:
            same = sum(map(str.__eq__, self.replies(llm), expected))
        return {"bfloat16, equal to float32": f"{same} of {len(expected)}"}

    def attention(self) -> Found:
        """SDPA, eager and, where it is installed, flash-attention in bfloat16."""
        kinds = ["sdpa", "eager"]
        if self.device == "cuda" and find_spec("flash_attn"):
            kinds.append("flash_attention_2")
        found: Found = {}
        for kind in kinds:
            with self.nano("bfloat16", attn_implementation=kind) as llm:
                found[kind] = self.replies(llm)
        require(all(map(any, zip(*found.values(), strict=True))), "empty replies")
        first = found["sdpa"]
        return {kind: sum(map(str.__eq__, one, first)) for kind, one in found.items()}

    def quantisation(self) -> Found:
        """8-bit and 4-bit weights."""
        if self.device != "cuda":
            raise SkippedError("its CPU kernels reject the embedded model's shapes")
        if not find_spec("bitsandbytes"):
            raise SkippedError("bitsandbytes is not installed")
        found: Found = {}
        for kind in ("8bit", "4bit"):
            with self.nano("bfloat16", quantization=kind) as llm:
                found[kind] = self.replies(llm)[0]
        return found

    def sampling(self) -> Found:
        """A seed gives one reply, whatever else runs."""
        with self.nano(temperature=2.0, top_p=0.95) as llm:  # nano is sure of itself
            alone = [llm.invoke("Tell me a story", seed=seed).content for seed in range(4)]
            again = [llm.bind(seed=seed) for seed in range(4)]
            others = [one.batch(["Tell me a story", "Go on"])[0].content for one in again]
        require(others == alone, "a seed's reply depends on the batch")
        require(len(set(alone)) > 1, "all seeds give one reply")
        return {"seeds": len(alone)}

    def grammar(self) -> Found:
        """Structured output is valid, also of several sequences with different schemas."""
        with self.nano() as llm:
            found = []
            for name in ("red", "green"):
                schema = {"title": "Answer", "type": "object", "required": [name],
                          "properties": {name: {"type": "boolean"}}}  # fmt: skip
                structured = llm.with_structured_output(schema)
                found += [list(one) for one in structured.batch(["x", "y"], max_tokens=40)]
        require(found == [["red"]] * 2 + [["green"]] * 2, f"other keys: {found}")
        return {"replies": len(found)}

    def caches(self) -> Found:
        """A second turn uses kept keys and features, and says what a cold run says."""
        first = [question(0)]
        with self.nano() as llm:
            reply = llm.invoke(first)
            second = [*first, AIMessage(reply.content), HumanMessage("And what else?")]
            warm = llm.invoke(second)
            stats = llm.engine_stats
            llm.clear_caches()
            cold = llm.invoke(second)
        usage: Any = warm.usage_metadata
        read = usage["input_token_details"]["cache_read"]
        require(warm.content == cold.content, "another reply than a cold run's")
        require(read > 0 and stats.prefix_hits > 0, "nothing was reused")
        return {"cached tokens": read, "of": usage["input_tokens"]}

    def cancellation(self) -> Found:
        """A stream that is left frees its row."""
        with self.nano(max_tokens=2000) as llm:
            for _ in llm.stream("Hello"):
                break
            start = time.perf_counter()
            while llm.engine_stats.active_rows and time.perf_counter() - start < 60:
                time.sleep(0.001)
            spent = time.perf_counter() - start
            require(llm.engine_stats.active_rows == 0, "the row is still running")
        return {"seconds": spent}

    def memory(self) -> Found:
        """A shortage of memory ends the youngest requests, and the others go on.

        On a GPU the allocator itself fails: the process may use little more than it has.
        """
        model = random_model(1, 256, self.device, torch.float32)
        loop = DecodeLoop(model, {}, Limits(max_kv_bytes=1 << 40, prefix_cache=False))
        first = loop.begin(Request([5, 6, 7], max_tokens=30))
        expected = finish(loop)[first]
        size = 4000 if self.small else 40_000
        with memory_limit(self.device, 64 << 20):
            old = loop.begin(Request([5, 6, 7], max_tokens=30))
            loop.step()
            failed = 0
            try:
                for _ in range(64):
                    loop.begin(Request([1] * size, max_tokens=size))
                    failed += any(isinstance(event, Failure) for _, event in loop.step())
                    if failed:
                        break
            except (torch.OutOfMemoryError, EngineMemoryError):
                failed += 1
            for one in loop.sequences:
                if one is not old:
                    loop.remove(one)
            finish(loop)
            require(old.reply == expected, "the oldest reply has changed")
        loop.clear()
        if self.device == "cuda":
            require(failed, "memory was never short")
        return {"failed": failed}

    def graphs(self) -> Found:
        """Steps by CUDA graphs give the tokens of steps without, while sequences come and go."""
        if self.device != "cuda":
            raise SkippedError("CUDA graphs need a GPU")
        found: Found = {}
        for dtype in (torch.float32, torch.bfloat16):
            model = random_model(4, 512, self.device, dtype)
            replies = {}
            for wanted in (False, True):
                loop = DecodeLoop(model, {}, Limits(cuda_graphs=wanted))
                before = torch.cuda.memory_reserved()
                replies[wanted] = run_in_turn(loop, 12)
                if loop.graphs is not None:
                    share = loop.graphs.replays / loop.steps
                    grown = torch.cuda.memory_reserved() - before
                    found[f"{dtype}, replayed steps"] = round(share, 3)
                    found[f"{dtype}, memory with blocks, MB"] = grown / 1e6
                    require(share > 0.5, f"{share:.0%} of the steps were replayed")
                loop.clear()
            same = sum(map(list.__eq__, replies[True], replies[False]))
            found[f"{dtype}, equal replies"] = f"{same} of 12"
            require(dtype != torch.float32 or same == 12, f"equal replies: {same} of 12")
        return found

    def speed(self) -> Found:
        """Tokens a second at 1, 8 and 32 rows, beside `generate` and the bandwidth limit."""
        dtype = torch.bfloat16
        layers, hidden = (2, 256) if self.small else (28, 3584)
        model = random_model(layers, hidden, self.device, dtype)
        tokens, rows = (8, (1, 4)) if self.small else (128, (1, 8, 32))
        embedding = model.get_input_embeddings().weight
        read = sum(one.nbytes for one in model.parameters()) - embedding.nbytes
        read -= sum(one.nbytes for one in model.model.vision_tower.parameters())
        bandwidth = measure_bandwidth(self.device, small=self.small)
        found: Found = {"weights read a step, GB": read / 1e9, "bandwidth, GB/s": bandwidth / 1e9}
        for count in rows:
            prompts = [list(range(1000 + 7 * n, 1128 + 7 * n)) for n in range(count)]
            row: Found = {}
            kinds = {"engine": None, "engine, no graphs": False}
            for kind, wanted in kinds.items() if self.device == "cuda" else [("engine", None)]:
                loop = DecodeLoop(model, {}, Limits(prefix_cache=False, cuda_graphs=wanted))
                row[kind] = best(partial(run_engine, loop, prompts, tokens), self.device)
                if loop.graphs is not None:
                    share = loop.graphs.replays / loop.steps
                    found[f"{count} rows, replayed steps"] = round(share, 3)
                loop.clear()
            for kind in ("dynamic", "static"):
                try:
                    row[f"generate, {kind}"] = best(
                        partial(run_generate, model, prompts, tokens, kind), self.device
                    )
                except Exception as error:  # noqa: BLE001 - compilers fail in many ways
                    row[f"generate, {kind}"] = f"{type(error).__name__}: {error}"[:300]
            speeds = {
                name: count * tokens / one for name, one in row.items() if isinstance(one, float)
            }
            found[f"{count} rows, tokens/s"] = {**row, **speeds}
            ours = max(one for name, one in speeds.items() if "engine" in name)
            others = max((one for name, one in speeds.items() if "engine" not in name), default=0.0)
            if count == 1:
                found["1 row, engine / bandwidth limit"] = ours * read / bandwidth
            if others:
                found[f"{count} rows, engine / best generate"] = ours / others
        return found


def question(number: int) -> HumanMessage:
    """A question about an image of a coloured shape."""
    image = Image.new("RGB", (96 + 32 * number, 96), "white")
    colour = ("red", "blue", "green")[number % 3]
    ImageDraw.Draw(image).ellipse((16, 16, 80, 80), fill=colour)
    text = {"type": "text", "text": "What is in the image?"}
    return HumanMessage([dict(image_block(image)), text])


def random_model(layers: int, hidden: int, device: str, dtype: torch.dtype) -> Any:
    """A random model with the proportions of a 7B Qwen2, and a small vision tower."""
    torch.manual_seed(0)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
            image_size=[448, 448], patch_size=[14, 14],
        ),
        text_config=Qwen2Config(
            hidden_size=hidden,
            intermediate_size=hidden * 37 // 7,
            num_hidden_layers=layers,
            num_attention_heads=max(1, hidden // 128),
            num_key_value_heads=4 if hidden % 512 == 0 else 1,
            vocab_size=151_674 if hidden > 1000 else 8_000,
            tie_word_embeddings=False,
            max_position_embeddings=131_072,
        ),
        image_token_id=7_999,
        image_seq_length=256,
    )  # fmt: skip
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model: Any = InternVLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(default)
    return model.eval()


def finish(loop: DecodeLoop) -> dict[Any, list[int]]:
    """The replies of the running sequences, at their ends."""
    begun = loop.sequences
    while loop.sequences:
        loop.step()
    return {one: one.reply for one in begun}


def run_engine(loop: DecodeLoop, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Replies of the engine, decoded together."""
    for prompt in prompts:
        loop.begin(Request([1000 + one % 6000 for one in prompt], max_tokens=tokens))
    return list(finish(loop).values())


def run_in_turn(loop: DecodeLoop, count: int) -> list[list[int]]:
    """Replies of sequences that begin one after the other, and end in another order."""
    begun: list[Any] = []
    while len(begun) < count or loop.sequences:
        if len(begun) < count and loop.steps >= 20 * len(begun):
            number = len(begun)
            prompt = [(7 * number + 11 * place) % 7000 for place in range(40 + 50 * (number % 5))]
            begun.append(loop.begin(Request(prompt, max_tokens=60 + 70 * (number % 4))))
        loop.step()
    return [one.reply for one in begun]


def run_generate(model: Any, prompts: list[list[int]], tokens: int, cache: str) -> None:
    """Replies of transformers; the static cache compiles the decode step."""
    ids = torch.tensor([[1000 + one % 6000 for one in prompt] for prompt in prompts])
    with torch.inference_mode():
        model.generate(
            input_ids=ids.to(model.device),
            attention_mask=torch.ones_like(ids).to(model.device),
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=None,
            pad_token_id=0,
            **({"cache_implementation": "static"} if cache == "static" else {}),
        )


def best(run: Callable[[], object], device: str, times: int = 3) -> float:
    """Seconds of the fastest of several runs, after one that warms up."""
    run()
    found = []
    for _ in range(times):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        found.append(time.perf_counter() - start)
    return min(found)


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure_bandwidth(device: str, *, small: bool) -> float:
    """Bytes a second that a sum over a large tensor reads."""
    data = torch.ones((1 << 20) if small else (1 << 30), dtype=torch.float32, device=device)
    return data.nbytes / best(lambda: data.sum().item(), device, 5)


@contextmanager
def memory_limit(device: str, beyond: int) -> Iterator[None]:
    """Limits torch's allocator of a GPU to what it holds and a number of bytes more."""
    if device != "cuda":
        yield
        return
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + beyond) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


NAMES = (
    "goldens", "greedy", "attention", "quantisation", "sampling", "grammar", "caches",
    "cancellation", "memory", "graphs", "speed",
)  # fmt: skip


def run_check(checks: Checks, name: str) -> Found:
    """Result of a check: its values, the reason why it was skipped, or its error."""
    start = time.perf_counter()
    try:
        found: Found = {"state": "passed", **getattr(checks, name)()}
    except SkippedError as reason:
        found = {"state": "skipped", "reason": str(reason)}
    except WrongResultError as error:
        found = {"state": "failed", "error": str(error)}
    except Exception as error:  # noqa: BLE001 - the other checks are run too
        last = traceback.format_exc().splitlines()[-6:]
        found = {"state": "failed", "error": f"{type(error).__name__}: {error}", "trace": last}
    gc.collect()
    if checks.device == "cuda":
        torch.cuda.empty_cache()
    return {**found, "seconds": round(time.perf_counter() - start, 2)}


def main(arguments: list[str] | None = None) -> int:
    """Run the checks, and write their results; the number of failed ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, for a test of this file")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu --small runs the same code")
    card = torch.cuda.get_device_name() if chosen.device == "cuda" else "cpu"
    report: Found = {
        "device": card,
        "small": chosen.small,
        "torch": torch.__version__,
        "package": __version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    checks = Checks(chosen.device, small=chosen.small)
    for name in chosen.only:
        report[name] = run_check(checks, name)
        print(f"{name:14}{json.dumps(report[name])}", flush=True)
    name = "-".join(card.lower().split())
    output: Path = chosen.output or RESULTS / f"gpu-{name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return sum(report[name]["state"] == "failed" for name in chosen.only)


if __name__ == "__main__":
    sys.exit(min(1, main()))
