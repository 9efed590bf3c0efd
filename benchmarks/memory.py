"""Memory of a process after 100, 300 and 1,000 mixed requests of the embedded model.

Requests of six kinds in turn: an image, a seeded sample, a JSON schema or a stop string, a stream
that is left after its first chunk, two requests at once, and a choice. The resident set is read
from /proc (Linux) after a garbage collection. Both caches have bounds that the first 100 requests
fill (their bytes are printed beside it), so that what grows afterwards is not a cache.

    python benchmarks/memory.py [REQUESTS]
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
from pathlib import Path

import numpy as np
from langchain_core.messages import HumanMessage
from PIL import Image

from langchain_internvl import ChatInternVL, image_block

MARKS = (100, 300, 1000)


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def one_request(llm: ChatInternVL, number: int, rng: random.Random) -> None:
    """The request of a number: its kind by turns, its content new each time."""
    width, height = rng.choice([(30, 40), (64, 64), (100, 50)])
    kind = number % 6
    if kind == 0:
        noise = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        question = {"type": "text", "text": f"What is number {number}?"}
        llm.invoke([HumanMessage([dict(image_block(Image.fromarray(noise))), question])])
    elif kind == 1:
        text = f"Hello {number} " + "x " * rng.randrange(60)
        llm.invoke(text, temperature=1.0, seed=number)
    elif kind == 2 and number % 4:
        llm.invoke("Hi", stop=["e"])
    elif kind == 2:
        name = f"key_{number % 7}"
        schema = {"title": "Answer", "type": "object", "required": [name],
                  "properties": {name: {"type": "boolean"}}}  # fmt: skip
        llm.with_structured_output(schema).invoke("x", max_tokens=30)
    elif kind == 3:
        for _ in llm.stream(f"Go {number}"):
            break
    elif kind == 4:
        llm.batch([f"a{number}", f"b{number}"])
    else:
        llm.invoke("Hello", choices=["yes", "no"])


def main() -> None:
    """Run the requests and print the memory at each mark, and its ratios."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else MARKS[-1]
    bounds = {"max_kv_bytes": 64 << 20, "feature_cache_bytes": 4 << 20}
    llm = ChatInternVL(model="nano", temperature=0, max_tokens=8, engine_options=bounds)
    rng = random.Random(0)  # noqa: S311 - a mixture, no secret
    found: dict[int, int] = {}
    for number in range(1, most + 1):
        one_request(llm, number, rng)
        if number in MARKS:
            gc.collect()
            found[number] = resident()
            stats = llm.engine_stats
            row = {"requests": number, "resident MiB": round(found[number] / 2**20, 1),
                   "prefix MiB": round(stats.prefix_bytes / 2**20, 1),
                   "feature MiB": round(stats.feature_bytes / 2**20, 1)}  # fmt: skip
            print(json.dumps(row), flush=True)
    last = found[max(found)]
    for number, bytes_then in found.items():
        print(f"{max(found)} / {number}: {last / bytes_then:.3f}")


if __name__ == "__main__":
    main()
