"""Memory: while a checkpoint loads, and after many requests. Each in processes of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.load_memory import peak_of, write_checkpoint
from benchmarks.machine import ROOT
from benchmarks.row import Bench, Result, Row, Study


def measure(bench: Bench) -> dict[str, Result]:
    """Peaks of loading over the checkpoint, and the resident set after requests."""
    return {"loading": _loading(bench), "requests": _requests(bench)}


def _loading(bench: Bench) -> Result:
    """Peak resident memory, beyond that of the process before, over the size of the files."""
    with tempfile.TemporaryDirectory(prefix="internvl-bench-") as name:
        size = write_checkpoint(Path(name), bench.size(1_500_000_000, 300_000_000))
        peaks = [peak_of("auto", Path(name)) for _ in range(bench.rounds)]
    anonymous = max(one.anonymous for one in peaks) / size
    return Result(
        [one.resident / size for one in peaks],
        f"{size / 1e9:.2f} GB in bfloat16, original format; resident, of which anonymous "
        f"{anonymous:.2f}; {peaks[-1].seconds:.1f} s",
    )


def _requests(bench: Bench) -> Result:
    """Resident memory after 1,000 mixed requests over that after 100."""
    most = bench.size(1000, 100)
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(ROOT / "benchmarks" / "memory.py"), str(most)],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        text=True,
    )
    found = re.search(rf"^{most} / 100: ([\d.]+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"benchmarks/memory.py printed no ratio: {done.stdout!r}")
    return Result([float(found[1])], f"{most} / 100 requests, resident, with the caches growing")


STUDY = Study(
    (
        Row("loading", "peak memory while loading / checkpoint, same dtype", 1.15),
        Row("requests", "memory after 1,000 mixed requests / after 100", 1.02),
    ),
    measure,
)
