"""`make bench`: every row runs, and its results are written and quoted."""

import json
import math
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks import documents
from benchmarks.__main__ import main, profile, run
from benchmarks.machine import Peaks
from benchmarks.quote import CLOSE, OPEN, between, line, table
from benchmarks.results import FOLDER, merge
from benchmarks.row import Bench, Result, Row, Study
from benchmarks.table import ROWS, STUDIES
from langchain_internvl import InternVLLoader

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.rows[0].name)
def test_every_row_runs(study, tmp_path):
    names = [row.name for row in study.rows]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--rows", names[0], "--output", tmp_path],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert list(results["rows"]) == names
    for row in results["rows"].values():
        assert math.isfinite(row["value"])
        assert row["spread"][0] <= row["value"] <= row["spread"][1]
    assert "<svg" in (tmp_path / "table.svg").read_text("utf-8")


def measured(values, goal=0.5):
    row = Row("one", "ours / plain", goal)
    study = Study((row,), lambda _: {"one": Result(values, "noted", profile=list, limit="light")})
    bench = Bench(1.0, len(values))
    bench.__dict__["peaks"] = Peaks(1e11, 1e10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.__main__.STUDIES", (study,))
        return run(bench, {"one"})


def test_a_row_is_met_by_its_median_and_a_missed_one_has_its_profile_and_limit():
    met = measured([0.9, 0.4, 0.5])["rows"]["one"]
    assert (met["value"], met["spread"], met["met"]) == (0.5, [0.4, 0.9], True)
    assert "profile" not in met
    missed = measured([0.6])["rows"]["one"]
    assert not missed["met"]
    assert missed["profile"][0].startswith("ncalls")
    assert missed["limit"] == "light"


def test_a_profile_names_what_takes_the_time():
    lines = profile(lambda: sum(sorted(range(100_000))))
    assert any("sorted" in one for one in lines)


def test_results_of_single_rows_complete_those_of_an_older_run():
    old = {"machine": {"cores": 2, "date": "1"}, "rows": {"a": 1, "b": 1}}
    new = {"machine": {"cores": 2, "date": "2"}, "rows": {"b": 2}}
    assert merge(old, new, "ba") == {"machine": new["machine"], "rows": {"a": 1, "b": 2}}
    assert list(merge(old, new, "ba")["rows"]) == ["b", "a"]
    assert merge({}, new, "ab") == new


@pytest.mark.parametrize("changed", [{"cores": 1}, {"scale": 1.0}, {"quick": True}])
def test_rows_of_another_machine_or_size_are_not_in_the_same_table(changed):
    machine = {"processor": "EPYC", "cores": 2, "scale": 0.5, "quick": False}
    new = {"machine": machine, "rows": {"b": 2}}
    assert merge({"machine": machine | changed, "rows": {"a": 1}}, new, "ab") == new


def test_a_quick_run_leaves_the_recorded_results(monkeypatch, capsys):
    recorded = (FOLDER / "table.json").read_bytes()
    study = Study(ROWS[:1], lambda _: {ROWS[0].name: Result([0.1], "noted")})
    monkeypatch.setattr("benchmarks.__main__.STUDIES", (study,))
    monkeypatch.setattr(Bench, "peaks", Peaks(1e11, 1e10))
    main(["--quick", "--rows", ROWS[0].name])
    assert (FOLDER / "table.json").read_bytes() == recorded
    written = Path(capsys.readouterr().out.rpartition("written: ")[2].partition(",")[0])
    assert list(json.loads(written.read_text("utf-8"))["rows"]) == [ROWS[0].name]
    shutil.rmtree(written.parent)


def test_the_loader_is_compared_with_the_engine_on_the_same_tokens(capsys):
    documents.main(["--pages", "3", "--repetitions", "2", "--concurrency", "2"])
    shown = capsys.readouterr().out
    assert shown.startswith("3 pages, ")
    for line_of in ("bare engine", "in flight", "one by one", "loader over the bare engine"):
        assert f"\n{line_of}" in shown
    assert "Ordered by: cumulative time" in shown  # the profile


def test_other_texts_of_the_loader_end_the_comparison(monkeypatch):
    shorter = partial(InternVLLoader, max_tokens=5, max_retries=0)
    monkeypatch.setattr(documents, "InternVLLoader", shorter)
    with pytest.raises(SystemExit, match="OTHER TEXTS OR TOKENS: in flight"):
        documents.main(["--pages", "1", "--repetitions", "1"])


def test_results_are_quoted_between_their_markers():
    results = measured([0.6])
    page = between(f"before\n{OPEN}\nold\n{CLOSE}\nafter", table(results))
    assert page.startswith(f"before\n{OPEN}\nMeasured on ")
    assert page.endswith(f"{CLOSE}\nafter")
    assert "| ours / plain | 0.6 | 0.6 to 0.6 | 0.5 | **missed** |" in page
    assert "old" not in page
    assert between(page, table(results)) == page
    assert "0 of 1 goals" in line(results)
    with pytest.raises(ValueError, match="must have"):
        between("no markers", "text")


def test_names_of_rows_are_distinct_and_pages_have_the_markers():
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names)) == 17
    for page in ("README.md", "docs/guides/performance.md"):
        assert (ROOT / page).read_text("utf-8").count(OPEN) == 1
