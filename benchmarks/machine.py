"""The machine of a run: what it is, and what it can do at most."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from langchain_internvl.backends.transformers.cpu_products import use_cpu_products

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Peaks:
    """Physical limits, measured.

    Attributes:
        gemm: Floating-point operations per second of a large float32 matrix product, by the faster
            of torch's libraries.
        bandwidth: Bytes per second of reading a large float32 matrix (matrix times vector),
            likewise.
    """

    gemm: float
    bandwidth: float


def measure_peaks() -> Peaks:
    """Measure both limits with the threads of torch; the best of several runs."""
    size = 2048
    square, tall = nn.Linear(size, size, bias=False), nn.Linear(896, 100_000, bias=False)
    rows, row = torch.randn(size, size), torch.randn(1, 896)

    def seconds() -> tuple[float, float]:
        return _best(lambda: square(rows)), _best(lambda: tall(row))

    with torch.inference_mode():
        own = seconds()
        use_cpu_products(nn.ModuleList([square, tall]))
        gemm, reading = map(min, own, seconds())
    return Peaks(2 * size**3 / gemm, tall.weight.nbytes / reading)


def _best(run: Callable[[], object], times: int = 5) -> float:
    run()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def describe(peaks: Peaks) -> dict[str, Any]:
    """Facts about the machine and the software, for the JSON file."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(_memory() / 2**30, 1),
        "gemm_gflops": round(peaks.gemm / 1e9, 1),
        "bandwidth_gb_s": round(peaks.bandwidth / 1e9, 1),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
    }


def processor() -> str:
    """The machine's name of its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((one.partition(":")[2].strip() for one in lines if "model name" in one), "unknown")


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return 0


def _commit() -> str:
    """The commit of the measured files, with a plus sign if the package differs from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = _output([*git, "rev-parse", "--short", "HEAD"])
        changed = _output([*git, "status", "--porcelain", "langchain_internvl", "benchmarks/rows"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()
