"""Pages a second of the loader: pages in flight together, one by one, and the bare engine.

    python benchmarks/documents.py --pages 32 --model nano

The bare engine answers the same questions about the same images by `llm.batch`, without the
loader: what the loader adds is the difference.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Callable

from langchain_core.messages import BaseMessage, HumanMessage
from PIL import Image, ImageDraw, ImageFont

from langchain_internvl import ChatInternVL, InternVLLoader
from langchain_internvl.tools.task_prompts import READ

WORDS = (
    "amber", "basket", "candle", "dollar", "engine", "forest", "garden", "hammer", "island",
    "jacket", "kettle", "ladder",
)  # fmt: skip


def draw_page(chance: random.Random) -> Image.Image:
    """A page that nano can read: three lines of 32 pixels on one tile."""
    page = Image.new("RGB", (448, 448), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(32)
    for line in range(3):
        draw.text((24, 40 + 70 * line), " ".join(chance.sample(WORDS, 2)), "black", font)
    return page


def to_tiff(pages: list[Image.Image]) -> bytes:
    """The pages as one TIFF."""
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    return buffer.getvalue()


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes, the better of two runs."""
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--base-url")
    parser.add_argument("--pages", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=8)
    arguments = parser.parse_args()
    chance = random.Random(1)  # noqa: S311 - words of pages
    pages = [draw_page(chance) for _ in range(arguments.pages)]
    data = to_tiff(pages)
    llm = ChatInternVL(model=arguments.model, base_url=arguments.base_url, temperature=0)
    questions: list[list[BaseMessage]] = [
        [HumanMessage([{"type": "image", "image": page}, {"type": "text", "text": READ}])]
        for page in pages
    ]
    llm.invoke(questions[0])  # loads the weights

    def load(concurrency: int) -> None:
        loader = InternVLLoader(data, llm=llm, concurrency=concurrency, rotation="never")
        found = len(loader.load())
        if found != len(pages):
            raise SystemExit(f"{found} documents of {len(pages)} pages")

    bare = timed(
        lambda: llm.batch(
            list(questions), {"max_concurrency": arguments.concurrency}, logprobs=True
        )
    )
    together = timed(lambda: load(arguments.concurrency))
    alone = timed(lambda: load(1))
    count = len(pages)
    print(f"{count} pages, {arguments.model}, {arguments.concurrency} in flight")
    print(f"bare engine    {count / bare:6.2f} pages/s")
    print(f"in flight      {count / together:6.2f} pages/s")
    print(f"one by one     {count / alone:6.2f} pages/s")
    print(f"in flight / one by one {alone / together:.2f}")
    print(f"loader over the bare engine {100 * (together / bare - 1):+.0f} %")


if __name__ == "__main__":
    main()
