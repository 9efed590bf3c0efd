"""What the loader adds to the engine: pages in flight together, one by one, and the bare engine.

    python benchmarks/documents.py --pages 32 --model nano

The bare engine answers the same questions about the same images by `llm.batch`. The run fails
unless all ways give the same texts from the same number of tokens. Every repetition measures all
ways in turn, with empty caches: of known images and prompts little would be left to compute.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import random
import statistics
import time
from collections.abc import Callable

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import BaseMessage, HumanMessage
from PIL import Image, ImageDraw, ImageFont

from langchain_internvl import ChatInternVL, InternVLLoader
from langchain_internvl.documents.blank import is_blank
from langchain_internvl.documents.pages import pages_of
from langchain_internvl.documents.skew import find_skew
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.tools.task_prompts import READ

WORDS = (
    "amber", "basket", "candle", "dollar", "engine", "forest", "garden", "hammer", "island",
    "jacket", "kettle", "ladder",
)  # fmt: skip

BARE, TOGETHER, ALONE = "bare engine", "in flight", "one by one"


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


class Run:
    """The measurements of one way to read the pages.

    Attributes:
        wall: Seconds of each repetition.
        cpu: Seconds of processor time of each repetition, all threads together.
    """

    def __init__(
        self, read: Callable[[], list[str]], llm: ChatInternVL, usage: UsageMetadataCallbackHandler
    ) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._read = read
        self._llm = llm
        self._usage = usage

    def repeat(self) -> tuple[list[str], int]:
        """Measure once more; returns the texts of the pages and the number of their tokens."""
        self._llm.clear_caches()
        before = self._tokens()
        wall, cpu = time.perf_counter(), time.process_time()
        texts = self._read()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return texts, self._tokens() - before

    def _tokens(self) -> int:
        return sum(one["output_tokens"] for one in self._usage.usage_metadata.values())


def prepare(data: bytes) -> None:
    """What the loader computes for each page besides the request, on one thread."""
    for page in pages_of(BytesSource(data, "pages"), MediaPolicy()):
        if isinstance(page.picture, Image.Image):
            is_blank(page.picture)
            find_skew(page.picture)


def spread(values: list[float], form: str) -> str:
    """Median, and the least and the greatest value."""
    least, median, most = (
        format(one, form) for one in (min(values), statistics.median(values), max(values))
    )
    return f"{median} [{least} to {most}]"


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--base-url")
    parser.add_argument("--pages", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args(given)
    chance = random.Random(1)  # noqa: S311 - words of pages
    pages = [draw_page(chance) for _ in range(arguments.pages)]
    data = to_tiff(pages)
    usage = UsageMetadataCallbackHandler()
    llm = ChatInternVL(
        model=arguments.model, base_url=arguments.base_url, temperature=0, callbacks=[usage]
    )
    questions: list[list[BaseMessage]] = [
        [HumanMessage([{"type": "image", "image": page}, {"type": "text", "text": READ}])]
        for page in pages
    ]
    together = {"max_concurrency": arguments.concurrency}

    def ask() -> list[str]:
        replies = llm.batch(list(questions), together, logprobs=True)  # type: ignore[arg-type]
        return [reply.text.strip() for reply in replies]

    def load(concurrency: int) -> list[str]:
        loader = InternVLLoader(data, llm=llm, concurrency=concurrency, rotation="never")
        return [page.page_content for page in loader.lazy_load()]

    ways = {
        BARE: Run(ask, llm, usage),
        TOGETHER: Run(lambda: load(arguments.concurrency), llm, usage),
        ALONE: Run(lambda: load(1), llm, usage),
    }
    llm.invoke(questions[0])  # loads the weights
    tokens = 0
    for _ in range(arguments.repetitions):
        texts, tokens = ways[BARE].repeat()
        for way in (TOGETHER, ALONE):
            if ways[way].repeat() != (texts, tokens):
                raise SystemExit(f"OTHER TEXTS OR TOKENS: {way}")
    bare = ways[BARE]
    count = len(pages)
    print(f"{count} pages, {tokens} tokens, {arguments.model}, {arguments.concurrency} in flight")
    for way, run in ways.items():
        rates = [count / one for one in run.wall]
        print(f"{way:14} {spread(rates, '.2f')} pages/s, CPU {spread(run.cpu, '.2f')} s")

    def ratios(over: list[float], under: list[float]) -> list[float]:
        return [one / other for one, other in zip(over, under, strict=True)]

    gain = ratios(ways[ALONE].wall, ways[TOGETHER].wall)
    added = [100 * (one - 1) for one in ratios(ways[TOGETHER].wall, bare.wall)]
    cpu = ways[TOGETHER].cpu, bare.cpu
    processor = [1000 * (one - other) / count for one, other in zip(*cpu, strict=True)]
    print(f"in flight / one by one       {spread(gain, '.2f')}")
    print(f"loader over the bare engine  {spread(added, '+.1f')} %")
    print(f"processor time added         {spread(processor, '+.1f')} ms a page; of it:")
    profile = cProfile.Profile()
    profile.runcall(prepare, data)
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("cumtime").print_stats(20)
    print("\n".join(line for line in text.getvalue().splitlines()[2:] if line.strip()))


if __name__ == "__main__":
    main()
