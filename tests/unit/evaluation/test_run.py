import json
import sys

import pytest
from PIL import Image

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import (
    CheckpointError,
    ModelNotServedError,
    RequestError,
    ServerAccessError,
)
from langchain_internvl.evaluation import METRICS, Case, evaluate, read_cases
from langchain_internvl.evaluation.tiles import max_tiles_of


def write(folder, *rows):
    path = folder / "cases.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


@pytest.fixture
def llm():
    def make(reply):
        return ChatInternVL(backend=ScriptedBackend(lambda _request: reply), model="nano")

    return make


def test_no_request_in_flight_is_refused(llm):
    with pytest.raises(RequestError, match="concurrency is a whole number from 1, not 0"):
        next(evaluate(llm("A"), [], "exact", concurrency=0))


def test_cases_are_read_with_paths_from_their_folder(tmp_path):
    path = write(tmp_path, {"id": "1", "question": "Who?", "image": "a.png", "answer": "Ann"})
    (case,) = read_cases(path)
    assert case.images == (tmp_path / "a.png",)
    assert case.answers == ("Ann",)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"id": "1", "question": "x"}, "line 2: the line: .*needs answers"),
        ({"id": "0", "question": "x", "answer": "y"}, "line 2: the id '0' is used twice"),
        ({"id": "1", "question": "x", "answer": "y", "imagez": []}, "line 2: imagez"),
        ({"id": "1", "question": "", "answer": "y"}, "line 2: question"),
        ({"id": "1", "question": "x", "box": [9, 9, 1, 1]}, "line 2: the line: .*upper left"),
        ({"id": "1", "question": "x", "box": [0, 0, 1, 1001]}, "line 2: y2: .*1000"),
        ({"id": "1", "question": "x", "answer": "A", "options": ["o"] * 27}, "at most 26"),
        ({"id": "1", "question": "x", "answer": "y", "answers": []}, "not both"),
    ],
)
def test_a_bad_case_is_named_by_its_line(tmp_path, row, fault):
    path = write(tmp_path, {"id": "0", "question": "x", "answer": "y"}, row)
    with pytest.raises(RequestError, match=fault):
        list(read_cases(path))


def test_files_of_other_editors(tmp_path):
    path = write(tmp_path, {"id": "0", "question": "x", "answer": "y"})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [case.id for case in read_cases(path)] == ["0"]
    path.write_bytes(path.read_bytes() + b"\n\xff")
    with pytest.raises(RequestError, match="line 2: is not UTF-8"):
        list(read_cases(path))


@pytest.mark.parametrize(
    ("answer", "score"), [("B", 1), ("b", 1), ("(B)", 1), ("a dog", 1), ("A", 0), ("E", None)]
)
def test_the_right_option_is_a_letter_or_its_text(llm, answer, score):
    case = Case(id="1", question="?", answers=(answer,), options=("A cat", "A dog"))
    (result,) = evaluate(llm("B"), [case], "option")
    assert result.score == (score or 0)
    assert (result.error is None) == (score is not None)


def test_an_empty_answer_is_in_no_reply(llm):
    case = Case(id="1", question="?", answers=("",))
    (result,) = evaluate(llm("anything"), [case], "ocrbench")
    assert (result.score, "empty answer" in result.error) == (0, True)
    (blank,) = evaluate(llm(""), [case], "cer")
    assert (blank.score, blank.error) == (0, None)


def test_results_come_in_order_and_a_failed_case_keeps_its_place(tmp_path, llm):
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    rows = [
        {"id": "good", "question": "Who?", "image": "a.png", "answers": ["Bo", "Ann"]},
        {"id": "gone", "question": "Who?", "image": "missing.png", "answer": "Ann"},
        {"id": "wrong", "question": "Who?", "answer": "Zoe"},
    ]
    results = list(evaluate(llm("Ann"), read_cases(write(tmp_path, *rows)), "anls"))
    assert [(one.id, one.score) for one in results] == [("good", 1), ("gone", 0), ("wrong", 0)]
    assert "missing.png" in results[1].error
    assert results[0].error is None


@pytest.mark.parametrize(
    ("metric", "reply", "fields", "score"),
    [
        ("relaxed", "10.2", {"answer": "10"}, 1),
        ("ocrbench", "it says stop", {"answer": "STOP"}, 1),
        ("exact", " Yes ", {"answer": "yes"}, 1),
        ("option", "The answer is B.", {"answer": "B", "options": ["cat", "dog"]}, 1),
        ("mvbench", "(A) up", {"answer": "B. down"}, 0),
        ("mvbench", "B", {"answer": "to the left", "options": ["up", "to the left"]}, 1),
        ("mvbench", "A", {"answer": "a cat", "options": ["a dog", "a cat"]}, 0),
        ("acc@0.5", "<ref>x</ref><box>[[0, 0, 500, 500]]</box>", {"box": [0, 0, 500, 500]}, 1),
        ("acc@0.5", "nothing", {"box": [0, 0, 500, 500]}, 0),
        ("cer", "abcd", {"answer": "abce"}, 0.25),
        ("wer", "a b", {"answer": "a c"}, 0.5),
    ],
)
def test_every_metric_scores_replies(llm, metric, reply, fields, score):
    (result,) = evaluate(llm(reply), [Case(id="1", question="?", **fields)], metric)
    assert result.score == score


@pytest.mark.parametrize("metric", METRICS)
def test_a_case_that_the_metric_cannot_score_fails_alone(llm, metric):
    boxed = Case(id="boxed", question="Who?", box=(0, 0, 500, 500))
    answered = Case(id="answered", question="Who?", answers=("A",))
    results = list(evaluate(llm("A"), [boxed, answered, boxed, answered], metric))
    failed = [one.error is not None for one in results]
    assert failed == ([False, True] if metric == "acc@0.5" else [True, False]) * 2
    reasons = {one.error for one in results if one.error}
    needed = "a box" if metric == "acc@0.5" else "answers"
    assert [f"{metric} needs {needed}" in reason for reason in reasons] == [True]


@pytest.mark.parametrize(
    "error", [CheckpointError("damaged"), ModelNotServedError("gone"), ImportError("torch")]
)
def test_a_model_that_cannot_be_used_ends_the_run(error):
    def reply(_request):
        raise error

    cases = [Case(id=str(number), question="Who?", answers=("A",)) for number in range(3)]
    llm = ChatInternVL(backend=ScriptedBackend(reply), model="nano")
    with pytest.raises(type(error)):
        list(evaluate(llm, cases, "exact"))


def test_cases_with_the_same_id_keep_their_own_replies():
    llm = ChatInternVL(backend=ScriptedBackend(["A", "B"]), model="nano")
    cases = [Case(id="1", question="Who?", answers=(answer,)) for answer in "AB"]
    results = list(evaluate(llm, cases, "exact", concurrency=1))
    assert [(one.reply, one.score) for one in results] == [("A", 1), ("B", 1)]


def test_a_missing_package_is_reported_before_the_first_request(llm, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance.Levenshtein", None)
    script = ScriptedBackend([])
    case = Case(id="1", question="Who?", answers=("A",))
    with pytest.raises(ImportError, match=r"\[evaluation\]"):
        list(evaluate(ChatInternVL(backend=script, model="nano"), [case], "anls"))
    assert script.requests == []


def test_an_unknown_metric_names_the_known_ones(llm):
    with pytest.raises(RequestError, match="anls"):
        list(evaluate(llm("x"), [], "blue"))
    assert "anls" in METRICS


def test_options_are_lettered_in_the_question(llm):
    case = Case(id="1", question="Which?", answer="B", options=("cat", "dog"))
    assert case.message().content[-1]["text"] == "Which?\nA. cat\nB. dog"


def test_tiles_are_those_of_vlmevalkit():
    assert max_tiles_of("docvqa_val") == 18
    assert max_tiles_of("MMMU_val", images=7) == 9
    assert max_tiles_of("InfoVQA_VAL", images=100) == 1
    assert max_tiles_of("ai2d") == 6
    assert max_tiles_of("ChartQA_TEST") == max_tiles_of("chartqa") == 12
    assert max_tiles_of("ChartQAPro") == max_tiles_of("VCRBench_8frame") == 6
    assert max_tiles_of("HRBench8K") == 24
    assert max_tiles_of("MMLongBench_DOC") == 18
    assert max_tiles_of("MVBench") == 1
    assert max_tiles_of("MMMU_Pro_10c") == max_tiles_of("mmmu_pro_vision") == 6
    assert max_tiles_of("olmOCRBench") == max_tiles_of("OCRBench_v2") == 24


def test_an_error_of_the_model_after_a_success_is_that_of_a_case():
    said = iter([ServerAccessError("no"), "A", ServerAccessError("no")])

    def reply(_request):
        one = next(said)
        if isinstance(one, Exception):
            raise one
        return one

    cases = [Case(id=str(number), question="Who?", answers=("A",)) for number in range(3)]
    llm = ChatInternVL(backend=ScriptedBackend(reply), model="nano")
    results = list(evaluate(llm, cases, "exact", concurrency=1))
    assert [one.error is None for one in results] == [False, True, False]
