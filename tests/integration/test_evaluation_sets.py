"""Evaluations of nano over a small generated set of each kind."""

import evaluation_sets
import pytest

from langchain_internvl import ChatInternVL
from langchain_internvl.evaluation import compare, estimate, evaluate, read_cases

pytestmark = pytest.mark.slow

CASES = 12


@pytest.fixture(scope="module")
def llm():
    return ChatInternVL(model="nano", temperature=0, max_tokens=60)


@pytest.mark.parametrize(
    ("kind", "metric", "least"),
    [
        ("documents", "anls", 0.8),
        ("charts", "relaxed", 0.4),
        ("counting", "exact", 0.5),
        ("grounding", "acc@0.5", 0.5),
        ("videos", "exact", 0.7),
    ],
)
def test_nano_answers_most_cases_of_each_kind(llm, tmp_path, kind, metric, least):
    path = evaluation_sets.write_set(getattr(evaluation_sets, kind), tmp_path, CASES)
    results = list(evaluate(llm, read_cases(path), metric))
    assert [one.error for one in results] == [None] * CASES
    assert estimate([one.score for one in results]).mean >= least
    again = list(evaluate(llm, read_cases(path), metric, concurrency=1))
    assert compare([one.score for one in results], [one.score for one in again]).mean == 0


def test_answers_without_the_image_are_wrong(llm, tmp_path):
    path = evaluation_sets.write_set(evaluation_sets.documents, tmp_path, CASES)
    blind = [case.model_copy(update={"images": ()}) for case in read_cases(path)]
    results = list(evaluate(llm, blind, "anls"))
    assert estimate([one.score for one in results]).mean <= 0.2
