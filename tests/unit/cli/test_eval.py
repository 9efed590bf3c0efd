"""`eval` and `compare`, as a person types them."""

import json

import pytest
from golden import checkpoint_folder
from typer.testing import CliRunner

from langchain_internvl import ChatInternVL, chat_models
from langchain_internvl.backends.base import NO_TOKEN, Delta
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.cli.app import app
from langchain_internvl.errors import CheckpointError


@pytest.fixture
def cases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cases.jsonl"
    rows = [{"id": str(n), "question": f"Number {n}?", "answer": "even" if n % 2 == 0 else "odd"}
            for n in range(10)]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def run(monkeypatch, *arguments, reply):
    def answer(request):
        if isinstance(reply, Exception):
            raise reply
        return reply(request) if callable(reply) else reply

    def make(**_):
        backend = ScriptedBackend(answer)
        return ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=backend)

    monkeypatch.setattr(chat_models, "ChatInternVL", make)
    return CliRunner().invoke(app, arguments)


def test_cases_are_printed_and_summed_up(cases, monkeypatch):
    result = run(monkeypatch, "eval", str(cases), "-m", "exact", "--out", "a.jsonl", reply="even")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["0  1.000  even", "1  0.000  even"]
    assert lines[-1].startswith("exact 0.500 [0.2")
    assert lines[-1].endswith("(n=10)")
    kept = [json.loads(one) for one in (cases.parent / "a.jsonl").read_text().splitlines()]
    assert [one["score"] for one in kept] == [1.0, 0.0] * 5
    assert kept[0]["metric"] == "exact"


@pytest.mark.parametrize(
    ("reason", "note"),
    [
        ("length", "10 cut off: raise max_tokens"),
        ("content_filter", "10 cut off by the server's content filter"),
        ("repetition", "10 cut off by the server, which found repetitions"),
        ("stop", "(n=10)"),
    ],
)
def test_replies_that_were_cut_off_are_counted(cases, monkeypatch, reason, note):
    reply = [Delta(NO_TOKEN, "even"), Delta(NO_TOKEN, "", reason)]
    arguments = ("eval", str(cases), "-m", "exact")
    assert run(monkeypatch, *arguments, reply=reply).stdout.strip().endswith(note)
    lines = run(monkeypatch, *arguments, "--json", reply=reply).stdout.splitlines()
    assert json.loads(lines[-1])["cut"] == (0 if reason == "stop" else 10)


def test_two_runs_are_compared_over_the_same_cases(cases, monkeypatch):
    run(monkeypatch, "eval", str(cases), "-m", "exact", "--out", "a.jsonl", reply="even")
    run(monkeypatch, "eval", str(cases), "-m", "exact", "--out", "b.jsonl", reply="none")
    worse = run(monkeypatch, "compare", "a.jsonl", "b.jsonl", reply="").stdout
    assert worse.startswith("exact of b.jsonl minus a.jsonl: -0.500 [")
    assert worse.endswith(": worse\n")
    better = run(monkeypatch, "compare", "b.jsonl", "a.jsonl", "--json", reply="").stdout
    assert json.loads(better)["verdict"] == "better"
    result = run(
        monkeypatch, "eval", str(cases), "-m", "exact", "--baseline", "a.jsonl", "--limit", "6",
        reply="odd",
    )  # fmt: skip
    assert "exact of this run minus a.jsonl: 0.000" in result.stdout
    assert "no difference beyond the choice of cases" in result.stdout
    assert "4 cases that only one of them has were left out" in result.stdout


def test_replies_may_have_separators_of_lines(cases, monkeypatch):
    """U+2028, U+0085 and form feeds end no line of a file of JSON Lines."""
    arguments = ("eval", str(cases), "-m", "exact", "--out", "a.jsonl")
    run(monkeypatch, *arguments, reply="a\u2028b\x85c\x0cd")
    result = run(monkeypatch, "compare", "a.jsonl", "a.jsonl", reply="")
    assert (result.exit_code, result.stdout.count("0.000")) == (0, 3)


@pytest.mark.parametrize("out", ["none/a.jsonl", "."])
def test_an_output_that_cannot_be_is_refused_before_any_request(cases, monkeypatch, out):
    arguments = ("eval", str(cases), "-m", "exact", "--out", out)
    result = run(monkeypatch, *arguments, reply=AssertionError("asked"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_the_cases_are_not_overwritten(cases, monkeypatch):
    before = cases.read_bytes()
    (cases.parent / "link.jsonl").symlink_to(cases)
    for out in ("cases.jsonl", "link.jsonl"):
        arguments = ("eval", str(cases), "-m", "exact", "--out", out)
        result = run(monkeypatch, *arguments, reply=AssertionError("asked"))
        assert result.exit_code == 2
        assert "would be overwritten" in " ".join(result.stderr.split())
    assert cases.read_bytes() == before


def test_two_runs_do_not_write_one_file(cases, monkeypatch):
    """Their lines would be mixed, and `compare` would read them as one run."""
    arguments = ("eval", str(cases), "-m", "exact", "--out", "a.jsonl")
    second = []

    def odd(_request):
        second.append(run(monkeypatch, *arguments, reply=AssertionError("asked")))
        return "odd"

    assert run(monkeypatch, *arguments, "--limit", "1", reply=odd).exit_code == 0
    assert second[0].exit_code == 2
    assert "is being written by another process" in " ".join(second[0].stderr.split())
    assert len((cases.parent / "a.jsonl").read_text().splitlines()) == 1
    assert run(monkeypatch, *arguments, reply="odd").exit_code == 0  # it is released
    assert len((cases.parent / "a.jsonl").read_text().splitlines()) == 10


def test_an_output_that_is_removed_meanwhile_is_no_error(cases, monkeypatch):
    out = cases.parent / "a.jsonl"

    def odd(_request):
        out.unlink(missing_ok=True)
        return "odd"

    arguments = ("eval", str(cases), "-m", "exact", "--limit", "2", "--out", "a.jsonl")
    result = run(monkeypatch, *arguments, reply=odd)
    assert (result.exit_code, result.exception) == (0, None)
    assert result.stdout.endswith("(n=2)\n")


def test_several_runs_may_write_a_device(cases, monkeypatch):
    arguments = ("eval", str(cases), "-m", "exact", "--limit", "1", "--out", "/dev/null")

    def odd(_request):
        assert run(monkeypatch, *arguments, reply="even").exit_code == 0
        return "odd"

    assert run(monkeypatch, *arguments, reply=odd).stdout.endswith("(n=1)\n")


def test_one_case_is_no_comparison(cases, monkeypatch):
    for name, reply in (("a.jsonl", "odd"), ("b.jsonl", "even")):
        arguments = ("eval", str(cases), "-m", "exact", "--limit", "1", "--out", name)
        run(monkeypatch, *arguments, reply=reply)
    result = run(monkeypatch, "compare", "a.jsonl", "b.jsonl", reply="")
    assert result.stdout.endswith(": one case says nothing about the others\n")


def test_a_model_that_cannot_be_used_leaves_the_older_file(cases, monkeypatch):
    (cases.parent / "a.jsonl").write_text("older")
    arguments = ("eval", str(cases), "-m", "exact", "--out", "a.jsonl")
    result = run(monkeypatch, *arguments, reply=CheckpointError("the weights are damaged"))
    assert result.exit_code == 1
    assert result.stderr.count("the weights are damaged") == 1
    assert (cases.parent / "a.jsonl").read_text() == "older"
    run(monkeypatch, *arguments[:-1], "b.jsonl", reply=CheckpointError("the weights are damaged"))
    assert sorted(one.name for one in cases.parent.iterdir()) == ["a.jsonl", "cases.jsonl"]


def test_failed_cases_are_said_and_exit_with_1(cases, monkeypatch):
    row = {"id": "x", "question": "?", "image": "none.png", "answer": "odd"}
    cases.write_text(cases.read_text() + "\n" + json.dumps(row), "utf-8")
    result = run(monkeypatch, "eval", str(cases), "-m", "cer", "--json", reply="odd")
    assert result.exit_code == 1
    *lines, summary = map(json.loads, result.stdout.splitlines())
    assert (summary["failed"], summary["count"]) == (1, 11)
    assert "none.png" in lines[-1]["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("eval", "cases.jsonl", "-m", "bleu"), "--metric: 'bleu' is none; choose one of anls"),
        (("eval", "empty.jsonl", "-m", "anls"), "has no cases"),
        (("eval", "cases.jsonl", "-m", "anls", "--baseline", "none"), "cannot be read"),
        (("compare", "bad.jsonl", "bad.jsonl"), "line 1: no result of eval"),
        (("compare", "empty.jsonl", "empty.jsonl"), "has no results"),
    ],
)
def test_wrong_usage(cases, monkeypatch, arguments, words):
    (cases.parent / "empty.jsonl").write_text("")
    (cases.parent / "bad.jsonl").write_text('{"id": 1}\n')
    result = run(monkeypatch, *arguments, reply="")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": "1", "score": 1, "metric": "anls"}], "scored by anls, this run by exact"),
        ([{"id": "x", "score": 1, "metric": "exact"}], "this run have no case in common"),
        ([{"id": "9", "score": 1, "metric": "exact"}], "this run have no case in common"),
    ],
)
def test_a_baseline_of_other_cases_is_refused_before_any_request(cases, monkeypatch, rows, words):
    """A run may take days; of the last one, `--limit` leaves the case in common out."""
    (cases.parent / "old.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (cases.parent / "new.jsonl").write_text("older")
    arguments = ("eval", str(cases), "-m", "exact", "--baseline", "old.jsonl", "--limit", "9")
    for out in ((), ("--out", "new.jsonl")):
        result = run(monkeypatch, *arguments, *out, reply=AssertionError("asked"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in " ".join(result.stderr.replace("│", " ").split())
    assert (cases.parent / "new.jsonl").read_text() == "older"


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "", "-m", "anls"),
        ("eval", "cases.jsonl", "-m", "anls", "--baseline", ""),
        ("compare", "", "cases.jsonl"),
        ("compare", "cases.jsonl", ""),
    ],
)
def test_an_empty_name_is_not_the_current_folder(cases, monkeypatch, arguments):
    result = run(monkeypatch, *arguments, reply=AssertionError("asked"))
    assert result.exit_code == 2
    assert "the path is empty" in " ".join(result.stderr.replace("│", " ").split())


def test_an_output_with_a_name_too_long_is_wrong_usage(cases, monkeypatch):
    arguments = ("eval", str(cases), "-m", "exact", "--out", "x" * 300)
    result = run(monkeypatch, *arguments, reply=AssertionError("asked"))
    assert result.exit_code == 2
    assert "cannot be written: File name too long" in " ".join(
        result.stderr.replace("│", " ").split()
    )


def test_a_bad_case_is_named_by_its_line(cases, monkeypatch):
    cases.write_text('{"id": "1"}\n')
    result = run(monkeypatch, "eval", str(cases), "-m", "anls", reply="")
    assert result.exit_code == 1
    assert "cases.jsonl, line 1: question" in result.stderr
