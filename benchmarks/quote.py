"""Writes the results of the table into the documentation, between markers.

    python -m benchmarks.quote [--results FOLDER]

The guide on performance gets the whole table, the README one line.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.results import FOLDER, read_json

GUIDE = ROOT / "docs" / "guides" / "performance.md"
README = ROOT / "README.md"
OPEN, CLOSE = "<!-- benchmarks: written by python -m benchmarks.quote -->", "<!-- /benchmarks -->"


def main(arguments: list[str] | None = None) -> None:
    """Rewrite both files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quote", description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER)
    results = read_json(parser.parse_args(arguments).results / "table.json")
    if not results:
        parser.error("there are no results; run `make bench`")
    for file, text in ((GUIDE, table(results)), (README, line(results))):
        file.write_text(between(file.read_text("utf-8"), text), "utf-8")
        print(f"written: {file}")


def between(page: str, text: str) -> str:
    """A page with a text in place of what is between its markers.

    Raises:
        ValueError: The page has no markers, or several.
    """
    pattern = re.compile(f"{re.escape(OPEN)}.*?{re.escape(CLOSE)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"the page must have {OPEN} ... {CLOSE} once")
    return pattern.sub(lambda _: f"{OPEN}\n{text}\n{CLOSE}", page)


def table(results: dict[str, Any]) -> str:
    """The machine in a sentence, and a table of all rows."""
    machine = results["machine"]
    layers = max(1, round(24 * machine["scale"]))
    conditions = (
        f"Measured on {_machine(machine)} (float32, {machine['gemm_gflops']:g} GFLOP/s in matrix "
        f"products, {machine['bandwidth_gb_s']:g} GB/s), {machine['date'][:10]}, with {layers} + "
        f"{layers} of the 24 + 24 layers. Values are medians; the spread is of all repetitions."
    )
    lines = [
        conditions,
        "",
        "| what | measured | spread | goal | |",
        "|---|---|---|---|---|",
    ]
    for row in results["rows"].values():
        low, high = row["spread"]
        met = "met" if row["met"] else "**missed**"
        lines.append(
            f"| {row['title']} | {_number(row['value'])}{_unit(row)} | {_number(low)} to "
            f"{_number(high)} | {row['goal']:g} | {met} |"
        )
    return "\n".join(lines)


def line(results: dict[str, Any]) -> str:
    """The results in a sentence for the README."""
    rows = results["rows"]
    told = [
        f"{text} {_number(rows[name]['value'])}"
        for name, text in (
            ("later_turns", "first token of later turns about one image"),
            ("ten_turns", "ten turns"),
            ("invoke", "a whole first call"),
        )
        if name in rows
    ]
    met = sum(row["met"] for row in rows.values())
    return (
        "Time divided by that of transformers' own `generate` (below 1 is faster), on "
        f"{_machine(results['machine'])}: "
        f"{', '.join(told)} ({met} of {len(rows)} goals met: "
        "[performance](docs/guides/performance.md))."
    )


def _machine(machine: dict[str, Any]) -> str:
    return f"{machine['cores']} cores of an {machine['processor']}, {machine['memory_gib']:g} GiB"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 0.1 else f"{value:.3g}"


def _unit(row: dict[str, Any]) -> str:
    return f" {row['unit']}" if row["unit"] else ""


if __name__ == "__main__":
    main()
