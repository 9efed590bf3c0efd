"""From `python` to the first answer of the embedded model, in fresh processes.

Each process imports the package, makes `ChatInternVL(model="nano")`, shows it a picture and prints
the answer, as a user's script does. The first one finds none of the installed files in the disk's
cache (but for those that other processes have open at that time), and is reported by itself; the
others find them all. Prints the median and the range of each stage, the processor time, and the
load of the machine: while others work, only the fastest run says what an idle machine takes.

    python benchmarks/cold_start.py [RUNS] [--json]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHOLE = "python to first answer"

PROGRAM = """
import json, sys, time
start = time.perf_counter()
from langchain_core.messages import HumanMessage
from langchain_internvl import ChatInternVL, image_block
llm = ChatInternVL(model="nano", temperature=0)
imported = time.perf_counter()
text = {"type": "text", "text": "Please describe the image shortly."}
message = HumanMessage([image_block("cookbook/shapes.png"), text])
llm.prompt_ids([message])
prompt = time.perf_counter()
import langchain_internvl.backends.transformers.backend
backend = time.perf_counter()
answer = llm.invoke([message]).content
first = time.perf_counter()
llm.invoke([message])
second = time.perf_counter()
json.dump({
    "import of langchain_internvl": imported - start,
    "prompt (imports torch and transformers, reads the tokenizer)": prompt - imported,
    "import of the backend (transformers' models)": backend - prompt,
    "weights and first answer": first - backend,
    "second answer": second - first,
}, sys.stdout)
"""


def run() -> dict[str, float]:
    """Seconds of each stage of a fresh process, and of all of it up to the first answer."""
    # A user has not set these; benchmarks and tests that share a machine often have.
    own = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment = {**own, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    start, used = time.perf_counter(), _processor_time()
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env=environment,
        text=True,
    )
    whole = time.perf_counter() - start
    stages: dict[str, float] = json.loads(done.stdout)
    # The start and end of Python count, the second answer does not.
    return {
        **stages,
        WHOLE: whole - stages["second answer"],
        "processor time, second answer included": _processor_time() - used,
    }


def _processor_time() -> float:
    times = os.times()
    return times.children_user + times.children_system


def forget_files() -> None:
    """Take the installed packages and the model out of the disk's cache, where the system can."""
    if not hasattr(os, "posix_fadvise"):
        return
    for folder in {sysconfig.get_paths()["purelib"], str(ROOT / "langchain_internvl")}:
        for path in Path(folder).rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(runs: int, *, as_json: bool) -> None:
    """Measure and print."""
    forget_files()
    first = run()
    load = os.getloadavg()[0]
    found = [run() for _ in range(runs)]
    if as_json:
        values = [one[WHOLE] for one in found]
        summary = {
            "runs": runs,
            "load": load,
            "without_disk_cache": first[WHOLE],
            "median": statistics.median(values),
            "fastest": min(values),
            "slowest": max(values),
        }
        json.dump(summary, sys.stdout)
        return
    print(f"{runs} cold processes on {os.cpu_count()} cores; load of others {load:.1f}")
    print(f"{first[WHOLE]:6.2f} s  the first, without the disk's cache")
    for stage in found[0]:
        values = [one[stage] for one in found]
        middle = statistics.median(values)
        print(f"{middle:6.2f} s  ({min(values):.2f} to {max(values):.2f})  {stage}")


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:] if one.isdecimal()]
    main(*(numbers or [5]), as_json="--json" in sys.argv)
