"""Read damaged copies of real videos, and count what becomes of them.

    python benchmarks/damaged_videos.py --count 200 VIDEO...

Each copy is cut, or has bytes changed, by a seeded random choice. Every one must give frames or
one of the package's own errors; anything else ends the script. Videos without arguments: the one
of the tests.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import Counter
from pathlib import Path

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import MediaError
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.video_process import read_clip

VIDEO = Path(__file__).parent.parent / "tests" / "data" / "videos" / "bigbuckbunny.mp4"


def main() -> None:
    """Print a line of outcomes for each video."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="damaged copies of each video")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for each")
    parser.add_argument("videos", nargs="*", type=Path, default=[VIDEO])
    arguments = parser.parse_args()
    policy = MediaPolicy(timeout=arguments.timeout)
    for video in arguments.videos:
        data = video.read_bytes()
        outcomes: Counter[str] = Counter()
        start = time.perf_counter()
        for number in range(arguments.count):
            copy = damage(data, random.Random(f"{arguments.seed} {number}"))  # noqa: S311
            outcomes[outcome(BytesSource(copy, video.name), policy)] += 1
        seconds = (time.perf_counter() - start) / arguments.count
        print(f"{video.name}: {arguments.count} copies, {seconds:.2f} s each")
        for kind, count in outcomes.most_common():
            print(f"  {count:4}  {kind}")


def damage(data: bytes, chance: random.Random) -> bytes:
    """Cut the file, or change bytes: a few, many, or a whole stretch."""
    changed = bytearray(data)
    kind = chance.choice(("cut", "few", "many", "stretch", "head"))
    if kind == "cut":
        del changed[chance.randrange(len(changed)) :]
    elif kind == "stretch":
        start = chance.randrange(len(changed))
        changed[start : start + 4096] = chance.randbytes(len(changed[start : start + 4096]))
    else:
        end = min(len(changed), 4096) if kind == "head" else len(changed)
        for _ in range({"few": 3, "many": 2000, "head": 20}[kind]):
            changed[chance.randrange(end)] = chance.randrange(256)
    return bytes(changed)


def outcome(source: BytesSource, policy: MediaPolicy) -> str:
    """What becomes of one video, in a few words."""
    try:
        clip = read_clip(source, policy)
    except MediaError as error:
        return re.sub(r"\d+", "N", error.reason)[:90]
    return f"{len(clip.frames)} frames"


if __name__ == "__main__":
    main()
