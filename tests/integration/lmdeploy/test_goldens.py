"""The ids that reach LMDeploy's engine, and those that it generates, against the recordings."""

import json

import pytest
from golden import DATA, by_id
from reference import SINGLE, model_of, reference_request, until_stop

pytestmark = pytest.mark.golden

EXCLUDED = json.loads((DATA / "lmdeploy_excluded.json").read_text("utf-8"))
"""Recorded generations that are not compared, by id, with the reason of each."""


def generate(backend, request):
    return [delta.token_id for delta in backend.stream(request)]


def check(case, ids):
    if case["id"] not in EXCLUDED:
        assert ids == until_stop(case)


def test_how_many_are_compared(capsys):
    ids = {case["id"] for case in SINGLE}
    assert ids >= EXCLUDED.keys()
    assert all(EXCLUDED.values())
    with capsys.disabled():
        print(f" {len(ids) - len(EXCLUDED)} of {len(ids)} recorded generations", end=" ")
    assert len(EXCLUDED) <= 0.1 * len(ids)


@pytest.mark.parametrize("case", **by_id(SINGLE))
def test_the_pipeline_generates_the_recorded_ids(case, prompts, backends, engines):
    name = model_of(case)
    request = reference_request(case, prompts(name))
    ids = generate(backends(name), request)
    seen = engines(name).seen[-1]
    assert seen.input_ids == list(request.prompt_ids)
    assert seen.tiles == sum(map(len, request.tiles))
    check(case, ids)


@pytest.mark.parametrize("case", **by_id(SINGLE))
def test_the_server_generates_the_recorded_ids(case, prompts, outside, servers):
    name = model_of(case)
    request = reference_request(case, prompts(name))
    llm = outside(name)
    ids = generate(llm._backend(llm._renderer(llm)), request)
    seen = servers(name).state["seen"][-1]
    assert seen["input_ids"] == list(request.prompt_ids)
    assert seen["tiles"] == sum(map(len, request.tiles))
    check(case, ids)
