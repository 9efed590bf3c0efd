"""The results of a run as JSON, and as a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"

_CONDITIONS = ("system", "processor", "cores", "threads", "scale", "quick")
"""Facts of a run without which its rows cannot stand in one table with those of another run."""


def write_json(results: dict[str, Any], file: Path) -> None:
    """Write results; see `merge`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")


def merge(old: dict[str, Any], new: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """The results of a run, completed by rows of an older run, in the order of the names.

    Rows of another machine, or of other sizes, are dropped: the tables name one machine for all.
    """
    is_same = all(
        old.get("machine", {}).get(name) == new["machine"].get(name) for name in _CONDITIONS
    )
    rows = {**(old.get("rows", {}) if is_same else {}), **new["rows"]}
    return {"machine": new["machine"], "rows": {name: rows[name] for name in order if name in rows}}


def read_json(file: Path) -> dict[str, Any]:
    """The results in a file; empty if there is none."""
    if not file.exists():
        return {}
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def plot(results: dict[str, Any], file: Path) -> None:
    """Draw each row's value, with its spread, over its goal; left of the line it is reached."""
    import matplotlib as mpl  # noqa: PLC0415 - only here, and only in the group `bench`

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    rows = list(results["rows"].values())[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.4))
    for place, row in enumerate(rows):
        value, low, high = (max(one / row["goal"], 1e-3) for one in (row["value"], *row["spread"]))
        colour = "tab:green" if row["met"] else "tab:red"
        axes.barh(place, value, color=colour, alpha=0.7)
        axes.plot([low, high], [place, place], color="black", linewidth=1.2)
        axes.text(max(value, high) * 1.08, place, f"{row['value']:.3g}{_unit(row)}", va="center")
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(left=1e-2, right=20)
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=8)
    axes.set_xlabel("value / goal (log scale; left of the dashed line the goal is reached)")
    machine = results["machine"]
    axes.set_title(f"{machine['processor']}, {machine['cores']} cores, {machine['date'][:10]}",
                   fontsize=9)  # fmt: skip
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _unit(row: dict[str, Any]) -> str:
    return f" {row['unit']}" if row["unit"] else ""
