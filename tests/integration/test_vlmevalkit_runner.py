"""VLMEvalKit's own command runs data sets through its adapter of `ChatInternVL`.

VLMEvalKit (`ms-vlmeval` on PyPI) and its dependencies are in an environment of their own; see
DEVELOPMENT.md.
"""

import base64
import csv
import functools
import json
import random
import sys
from importlib import import_module
from importlib.util import find_spec

import evaluation_sets
import pytest

from langchain_internvl import ChatInternVL
from langchain_internvl.evaluation import anls, evaluate, read_cases
from langchain_internvl.evaluation.vlmevalkit import VLMEvalKitModel
from langchain_internvl.tools.task_prompts import READ

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vlmeval") is None, reason="VLMEvalKit is not installed"),
]


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """Runs VLMEvalKit's command in this process, on tables in a folder."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("LMUData", str(data))
    monkeypatch.chdir(tmp_path)
    models = import_module("vlmeval.config").supported_VLM
    main = import_module("vlmeval.run").main

    model = functools.partial(VLMEvalKitModel, "nano", max_new_tokens=60)
    monkeypatch.setitem(models, "chat_internvl", model)

    def run(name, rows, *options):
        with (data / f"{name}.tsv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), delimiter="\t")
            writer.writeheader()
            writer.writerows(rows)
        out = tmp_path / "out"
        command = ["vlmeval", "--data", name, "--model", "chat_internvl", "--work-dir", str(out)]
        monkeypatch.setattr(sys, "argv", [*command, *options])
        main()
        return out

    return run


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def predictions(out, name):
    pandas = import_module("pandas")
    (file,) = (one for one in out.rglob(f"chat_internvl_{name}.*") if one.suffix != ".pkl")
    read = {".xlsx": pandas.read_excel, ".tsv": functools.partial(pandas.read_csv, sep="\t")}
    return read[file.suffix](file, dtype=str, keep_default_na=False)["prediction"].tolist()


def test_answers_of_a_data_set_are_those_of_our_own(kit, tmp_path):
    cases = [*read_cases(evaluation_sets.write_set(evaluation_sets.documents, tmp_path, 4))]
    rows = [
        {"index": number, "image": encoded(case.images[0]), "question": READ,
         "answer": case.answers[0]}
        for number, case in enumerate(cases)
    ]  # fmt: skip
    out = kit("NanoDocuments", rows, "--mode", "infer")
    llm = ChatInternVL(model="nano", temperature=0, max_tokens=60)
    ours = list(evaluate(llm, cases, "anls", max_tiles=6))
    theirs = predictions(out, "NanoDocuments")
    assert theirs == [one.reply for one in ours]
    assert sum(anls(one, case.answers) for one, case in zip(theirs, cases, strict=True)) > 3


def test_their_scores_of_multiple_choice(kit, tmp_path):
    """The model's letter is found by VLMEvalKit's own matching, without a judge."""
    rng = random.Random(1)
    rows = []
    for number in range(3):
        name = f"case-{number}"
        evaluation_sets.counting(rng, tmp_path, name)
        rows.append({"index": number, "image": encoded(tmp_path / f"{name}.png"),
                     "question": "How many shapes are there?", "A": "One.", "B": "Two.",
                     "C": "Three.", "D": "Four.", "answer": "B",
                     "category": "counting"})  # fmt: skip
    out = kit("NanoCounting", rows, "--judge", "exact_matching")
    assert len(predictions(out, "NanoCounting")) == 3
    (score,) = out.rglob("*_acc.csv")
    (row,) = csv.DictReader(score.read_text("utf-8").splitlines())
    assert 0 <= float(row["Overall"]) <= 1


def test_conversations_of_several_turns():
    """As `vlmeval.inference_mt` asks a model."""
    chat_mt = import_module("vlmeval.inference_mt").chat_mt

    model = VLMEvalKitModel("nano", max_new_tokens=20)
    turns = [
        {"role": role, "content": [{"type": "text", "value": text}]}
        for role, text in (("user", "Hello."), ("assistant", "x"), ("user", "Who are you?"),
                           ("assistant", "y"))
    ]  # fmt: skip
    replies = chat_mt(model, turns, "MMDU")
    assert len(replies) == 2
    assert not any("Failed" in reply for reply in replies), json.dumps(replies)
