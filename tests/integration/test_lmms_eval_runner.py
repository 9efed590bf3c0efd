"""lmms-eval's own command runs a task through `ChatInternVL`, found by its entry point."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import evaluation_sets
import pytest

from langchain_internvl import ChatInternVL
from langchain_internvl.evaluation import anls, evaluate, read_cases

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval is not installed"),
]

TASK = """
task: nano_documents
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: generate_until
doc_to_visual: !function nano_documents.images
doc_to_text: question
doc_to_target: answer
generation_kwargs:
  max_new_tokens: 60
  temperature: 0
  do_sample: false
metric_list:
  - metric: anls
    aggregation: mean
    higher_is_better: true
"""

FUNCTIONS = """
from pathlib import Path

def images(doc):
    return [str(Path(__file__).with_name(doc["image"]))]
"""


def test_their_runner_gives_the_scores_of_our_own(tmp_path):
    cases = evaluation_sets.write_set(evaluation_sets.documents, tmp_path, 6)
    (tmp_path / "nano_documents.yaml").write_text(TASK.format(file=cases), "utf-8")
    (tmp_path / "nano_documents.py").write_text(FUNCTIONS, "utf-8")
    command = [
        *(sys.executable, "-m", "lmms_eval", "--model", "chat_internvl"),
        *("--model_args", "pretrained=nano,max_tiles=12", "--batch_size", "4"),
        *("--tasks", "nano_documents", "--include_path", str(tmp_path)),
        *("--output_path", str(tmp_path / "out"), "--log_samples"),
    ]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]

    (samples,) = (tmp_path / "out").rglob("*_samples_nano_documents.jsonl")
    theirs = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    theirs.sort(key=lambda one: one["doc_id"])
    llm = ChatInternVL(model="nano", temperature=0, max_tokens=60)
    ours = list(evaluate(llm, read_cases(cases), "anls", max_tiles=12))
    assert [one["filtered_resps"] for one in theirs] == [one.reply for one in ours]
    assert all(
        anls(one["filtered_resps"], [one["target"]]) == pytest.approx(result.score)
        for one, result in zip(theirs, ours, strict=True)
    )
    (report,) = (tmp_path / "out").rglob("*_results.json")
    mean = json.loads(report.read_text("utf-8"))["results"]["nano_documents"]["anls,none"]
    assert mean == pytest.approx(sum(one.score for one in ours) / len(ours), abs=1e-6)
