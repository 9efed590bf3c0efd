"""Measures the rows of the table, prints them, and writes JSON and a plot.

    python -m benchmarks [--rows ten_turns,tiles] [--scale 0.0833] [--rounds 2] [--quick]

Every engine row compares with the plain way in the same run, on the same weights, and fails if the
tokens differ. Where a goal is missed, the physical limit of the machine and a profile are printed.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import io
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.results import FOLDER, merge, plot, read_json, write_json
from benchmarks.row import Bench, Result, Row
from benchmarks.table import ROWS, STUDIES


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("--rows", help=f"comma-separated, default all: {names}")
    parser.add_argument(
        "--scale", type=float, default=1 / 12, help="share of the 24 + 24 layers (default 2 + 2)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="repetitions (default 2)")
    parser.add_argument("--quick", action="store_true", help="smallest sizes; numbers mean nothing")
    parser.add_argument(
        "--output",
        type=Path,
        help=f"folder of JSON and plot, default {FOLDER}, and with --quick a new temporary one",
    )
    options = parser.parse_args(arguments)
    wanted = set(options.rows.split(",")) if options.rows else {row.name for row in ROWS}
    if unknown := wanted - {row.name for row in ROWS}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {names}")
    scale, rounds = (1 / 24, 1) if options.quick else (options.scale, options.rounds)
    bench = Bench(scale, rounds, quick=options.quick)
    folder: Path = options.output or (
        Path(tempfile.mkdtemp(prefix="internvl-bench-")) if options.quick else FOLDER
    )
    file = folder / "table.json"

    def save(results: dict[str, Any]) -> None:
        write_json(merge(read_json(file), results, [row.name for row in ROWS]), file)

    run(bench, wanted, save)
    plot(read_json(file), folder / "table.svg")
    print(f"written: {file}, {folder / 'table.svg'}")


def run(
    bench: Bench, wanted: set[str], save: Callable[[dict[str, Any]], object] = bool
) -> dict[str, Any]:
    """Measure the wanted rows, printing each; returns the machine and the rows.

    Args:
        bench: Settings.
        wanted: Names of rows.
        save: Receives the results so far after each study.
    """
    machine = {**describe(bench.peaks), "scale": bench.scale, "quick": bench.quick}
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    rows: dict[str, Any] = {}
    for study in STUDIES:
        if not any(row.name in wanted for row in study.rows):
            continue
        # What is alive already (torch, models) is not collected again while a row is timed.
        gc.collect()
        gc.freeze()
        start = time.perf_counter()
        results = study.measure(bench)
        seconds = time.perf_counter() - start
        gc.unfreeze()
        for row in study.rows:
            rows[row.name] = record = _record(row, results[row.name], machine)
            _print(row, results[row.name], record)
        save({"machine": machine, "rows": rows})
        print(f"{'':12} measured in {seconds:.0f} s", flush=True)
    return {"machine": machine, "rows": rows}


def _record(row: Row, result: Result, machine: dict[str, Any]) -> dict[str, Any]:
    met = result.value <= row.goal
    record: dict[str, Any] = {
        "title": row.title,
        "value": round(result.value, 4),
        "spread": [round(min(result.values), 4), round(max(result.values), 4)],
        "repetitions": len(result.values),
        "unit": row.unit,
        "goal": row.goal,
        "met": met,
        "note": result.note,
        "limit": result.limit,
        "date": machine["date"],
        "commit": machine["commit"],
        "processor": machine["processor"],
    }
    if not met and result.profile is not None:
        record["profile"] = profile(result.profile)
    return record


def profile(work: Callable[[], object], lines: int = 8) -> list[str]:
    """The functions that take the most time of their own, by cProfile (this thread only)."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(lines)
    rows = [line.strip() for line in text.getvalue().splitlines() if line.strip()]
    head = next(place for place, line in enumerate(rows) if line.startswith("ncalls"))
    return rows[head:]


def _print(row: Row, result: Result, record: dict[str, Any]) -> None:
    low, high = record["spread"]
    state = "met" if record["met"] else "MISSED"
    print(f"{row.name:12} {result.value:8.3f} {row.unit:5} [{low:.3f} to {high:.3f}]  goal "
          f"{row.goal:g}  {state:6}  {row.title}: {result.note}", flush=True)  # fmt: skip
    if result.limit and not record["met"]:
        print(f"{'':12} limit: {result.limit}")
    for line in record.get("profile", ()):
        print(f"{'':12} {line}")


if __name__ == "__main__":
    main()
