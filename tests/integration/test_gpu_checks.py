"""The checks for a GPU, run on the CPU in small sizes; no GPU is needed."""

import json
import runpy
from pathlib import Path

import pytest

PROGRAM = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "gpu.py"))


@pytest.mark.slow
def test_every_check_passes_on_the_cpu(tmp_path):
    file = tmp_path / "results" / "cpu.json"
    failed = PROGRAM["main"](["--device", "cpu", "--small", "--output", str(file)])
    report = json.loads(file.read_text("utf-8"))
    states = {name: report[name]["state"] for name in PROGRAM["NAMES"]}
    assert failed == 0, report
    skipped = {name for name, state in states.items() if state == "skipped"}
    assert skipped == {"graphs", "quantisation"}
    assert set(states.values()) <= {"passed", "skipped"}
    assert report["device"] == "cpu"
    assert report["small"] is True
    assert report["speed"]["1 rows, tokens/s"]["engine"] > 0


class Failing:
    device = "cpu"

    def wrong(self):
        PROGRAM["require"](condition=False, what="other tokens")

    def broken(self):
        raise RuntimeError("CUDA error: an illegal memory access")

    def skipped(self):
        raise PROGRAM["SkippedError"]("not installed")

    def passed(self):
        return {"cases": 3}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wrong", {"state": "failed", "error": "other tokens"}),
        ("broken", {"state": "failed",
                    "error": "RuntimeError: CUDA error: an illegal memory access"}),
        ("skipped", {"state": "skipped", "reason": "not installed"}),
        ("passed", {"state": "passed", "cases": 3}),
    ],
)  # fmt: skip
def test_a_check_that_fails_is_recorded(name, expected):
    found = PROGRAM["run_check"](Failing(), name)
    assert found.items() >= expected.items()
    assert found["seconds"] >= 0
