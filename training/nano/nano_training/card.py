"""The model card: `python -m nano_training.card FOLDER REPORT`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from langchain_internvl.nano import NOTICE
from nano_training.evaluate import TARGETS

_HEAD = """---
license: mit
pipeline_tag: image-text-to-text
---

# nano

{notice}

A tiny InternVL ({parameters:.2f} million parameters, {megabytes:.1f} MB in 16 bits) in the `-hf`
format: InternViT (448 x 448 pixels, patches of 16), pixel shuffle, projector and a small llama that
spells byte by byte. It was trained from scratch on pictures that `training/nano` draws: printed
text, coloured circles, squares, triangles, stars and signs on plain grounds, and videos of one
shape that moves, grows, shrinks or stays.

It reads printed text of 22 to 48 pixels, describes scenes of shapes, tells where a named shape is,
what a shape does in a video, and answers small questions about colour and number, and some about
pages whose text is in the prompt, with one of their lines. It knows nothing else: no photographs,
no handwriting, no languages but the letters of ASCII, no conversation.
"""

_TASKS = {
    "few lines": "1-4 lines of text, 22-48 px, one tile",
    "page": "pages of 2-6 tiles, 22-48 px",
    "ground": "where a named shape is",
    "describe": "what is on a picture",
    "ask": "colour and number",
    "video": "what a shape does, 8 frames",
    "short lines": "pages of 8-14 short lines, 20-28 px, 6-12 tiles (`max_tiles=12`)",
    "find line": "where a line of such a page is",
    "place line": "where a line of 1-6 lines on one tile is",
    "cited": "a question about 1-2 pages whose text it contains, answered with a line and its page",
    "blank": 'pictures of nothing: "no text", "nothing"',
}


def write_card(folder: Path, report: dict[str, Any]) -> None:
    """Write `README.md` of a model.

    Args:
        folder: The model.
        report: What `evaluate` found.
    """
    weights = folder / "model.safetensors"
    count = sum(tensor.numel() for tensor in load_file(weights).values())
    megabytes = weights.stat().st_size / 1e6
    parts = [
        _HEAD.format(notice=NOTICE, parameters=count / 1e6, megabytes=megabytes),
        _quality(report),
        _speed(report),
        "## How it was made\n\n```json\n" + (folder / "training.json").read_text("utf-8") + "```\n",
    ]
    (folder / "README.md").write_text("\n".join(parts), "utf-8")


def _quality(report: dict[str, Any]) -> str:
    controls = report.get("controls", 100)
    lines = [
        "## How good it is",
        "",
        f"On held-out pictures (seed {report['seed']}, which no choice between weights has seen):",
        "fonts, words, and places and doings of coloured shapes that training never saw (list",
        f"`{report['held_out'][:12]}`), asked through `ChatInternVL`, greedily. In brackets 95%",
        f"intervals; *wrong picture*: {controls} of the questions asked about another picture,",
        "as a control.",
        "",
        "| job | pictures | figure | | target | wrong picture |",
        "|---|---|---|---|---|---|",
    ]
    order = list(_TASKS)
    for name in sorted(report["figures"], key=lambda name: order.index(name.partition(":")[0])):
        figure = report["figures"][name]
        job, _, kind = name.partition(": ")
        aim = TARGETS.get(name)
        target = "" if aim is None else f"{'<=' if 'error' in kind else '>='} {aim:.0%}"
        span = f"({figure['low']:.1%} to {figure['high']:.1%})"
        pictures = figure.get("pictures", report.get("samples"))
        value = f"**{figure['value']:.1%}** {span}"
        wrong = f"{figure['control']:.1%}"
        lines.append(f"| {_TASKS[job]} | {pictures} | {kind} | {value} | {target} | {wrong} |")
    lines += ["", "The first answers of each job:", "", "| truth | answer |", "|---|---|"]
    lines += [
        f"| {_cell(example['truth'])} | {_cell(example['said'])} |"
        for job in order
        for example in report["examples"].get(job, [])[:2]
    ]
    return "\n".join(lines) + "\n"


def _speed(report: dict[str, Any]) -> str:
    cold = report["cold_start"]
    jobs = ", ".join(f"{job} {seconds:.2f} s" for job, seconds in report["latency"].items())
    return (
        f"## How fast\n\nOn {report['cpu']}.\n\n"
        f"Cold, from `python` to the first answer: {cold['fastest']:.1f} s for the fastest of "
        f"{cold['runs']} fresh\nprocesses, {cold['median']:.1f} s for the middle one, "
        f"{cold['slowest']:.1f} s for the slowest\n(load average at the start "
        f"{cold['load']:.1f}), and "
        f"{cold['without_disk_cache']:.1f} s for the first one, whose files are in no cache of "
        "the\ndisk (`benchmarks/cold_start.py`). Four fifths are imports of torch and "
        "transformers; the tokenizer\nitself loads in a hundredth of a second.\n\n"
        "Warm, one question after another in one process, from picture to the last letter, median "
        f"of ten:\n{jobs}.\n"
    )


def _cell(text: str) -> str:
    return "`" + text.replace("\n", " / ").replace("|", "\\|") + "`"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("report", type=Path)
    arguments = parser.parse_args()
    write_card(arguments.folder, json.loads(arguments.report.read_text("utf-8")))


if __name__ == "__main__":
    main()
