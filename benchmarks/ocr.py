"""Character error rate and pages a second: a chat model, and rapidocr as a second opinion.

    python benchmarks/ocr.py --model nano --pages 24
    python benchmarks/ocr.py --base-url http://localhost:23333/v1 --model OpenGVLab/InternVL3-8B

Pages are drawn, so their text is known: one to four lines of words at 26 to 40 pixels. rapidocr
(models in its wheel) runs in an environment of its own, `--rapidocr /path/to/python`, as its
dependencies are not ours; without it that row is left out.

The comparison is of text, less of speed: the loader has 8 pages in flight and torch's threads,
rapidocr reads one page at a time with the threads of onnxruntime. The pages are of the kind that
nano was trained on; rapidocr reads real scans too, nano does not.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from langchain_internvl import ChatInternVL, InternVLLoader
from langchain_internvl.evaluation.text import cer

WORDS = (
    "amber", "basket", "candle", "dollar", "engine", "forest", "garden", "hammer", "island",
    "jacket", "kettle", "ladder", "Monday", "needle", "orange", "pepper", "quartz", "river",
)  # fmt: skip

RAPID = """
import json, sys, time
from rapidocr import RapidOCR
engine = RapidOCR()
files = json.load(sys.stdin)
engine(files[0])
start, texts = time.perf_counter(), []
for file in files:
    found = engine(file)
    texts.append("\\n".join(found.txts or ()))
json.dump({"seconds": time.perf_counter() - start, "texts": texts}, sys.stdout)
"""
"""What runs in rapidocr's environment: files in, texts and seconds out."""


def draw(folder: Path, count: int) -> list[tuple[Path, str]]:
    """Pages as files, with their text."""
    chance = random.Random(5)  # noqa: S311 - words of pages
    pages = []
    for number in range(count):
        size = chance.choice([26, 32, 40])
        lines = [" ".join(chance.sample(WORDS, 2)) for _ in range(chance.randint(1, 4))]
        page = Image.new("RGB", (448, 448), "white")
        pen = ImageDraw.Draw(page)
        for row, line in enumerate(lines):
            pen.text((20, 30 + 90 * row), line, "black", ImageFont.load_default(size))
        path = folder / f"{number:04}.png"
        page.save(path)
        pages.append((path, "\n".join(lines)))
    return pages


def report(name: str, seconds: float, read: list[str], truth: list[str]) -> None:
    """Print one row."""
    errors = sum(cer(one, other) * len(other) for one, other in zip(read, truth, strict=True))
    letters = sum(map(len, truth))
    exact = sum(one.split() == other.split() for one, other in zip(read, truth, strict=True))
    print(
        f"{name:28} CER {100 * errors / letters:5.1f} %   exact pages {exact}/{len(truth)}   "
        f"{len(truth) / seconds:5.2f} pages/s"
    )


def main() -> None:
    """Read the pages with each and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--base-url")
    parser.add_argument("--pages", type=int, default=24)
    parser.add_argument("--rapidocr", type=Path, help="Python of an environment that has it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        pages = draw(Path(name), arguments.pages)
        files, truth = [path for path, _ in pages], [text for _, text in pages]
        llm = ChatInternVL(model=arguments.model, base_url=arguments.base_url, temperature=0)
        InternVLLoader(files[0], llm=llm).load()  # loads the weights
        start = time.perf_counter()
        read = [page.page_content for page in InternVLLoader(files, llm=llm).lazy_load()]
        report(arguments.model, time.perf_counter() - start, read, truth)
        if arguments.rapidocr is not None:
            done = subprocess.run(  # noqa: S603 - the environment that was named
                [arguments.rapidocr, "-c", RAPID],
                input=json.dumps([str(file) for file in files]),
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout[done.stdout.index('{"seconds"') :])
            report("rapidocr", found["seconds"], found["texts"], truth)


if __name__ == "__main__":
    main()
