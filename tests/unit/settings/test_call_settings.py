"""Settings of calls, and what they make of a checkpoint's own."""

import pytest
from pydantic import ValidationError

from langchain_internvl.backends.base import Request, Sampling
from langchain_internvl.errors import PromptError, RequestError
from langchain_internvl.media.tiling import TileLimits
from langchain_internvl.settings.call import CallSettings

STORED = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
    "repetition_penalty": 1.1,
}


@pytest.mark.parametrize(
    ("own", "stored", "expected"),
    [
        ({}, {}, Sampling()),
        ({}, {"temperature": 0.7}, Sampling()),
        ({}, STORED, Sampling(0.7, 0.8, 20, 1.1)),
        ({"temperature": 0}, STORED, Sampling(0, 0.8, 20, 1.1)),
        ({"temperature": 0.2}, {}, Sampling(0.2)),
        ({"temperature": 0.2}, STORED, Sampling(0.2, 0.8, 20, 1.1)),
        ({"top_p": 0.5}, {}, Sampling(1.0, 0.5)),
        ({"top_k": 5}, {}, Sampling(1.0, 1.0, 5)),
        ({"top_k": 5, "temperature": 0}, {}, Sampling(0, 1.0, 5)),
        ({"seed": 3, "repetition_penalty": 1.5}, {}, Sampling(seed=3, repetition_penalty=1.5)),
        ({}, {"do_sample": True, "top_p": None}, Sampling(1.0)),
    ],
)
def test_sampling_is_what_is_set_then_what_is_stored_then_greedy(own, stored, expected):
    assert CallSettings(**own).sampling(stored) == expected


def test_a_call_changes_settings_for_itself():
    settings = CallSettings(temperature=0.5, max_tokens=7)
    call = settings.for_call({"max_tokens": 9, "stop": ["x"]})
    assert (call.temperature, call.max_tokens, call.stop) == (0.5, 9, ["x"])
    assert (settings.max_tokens, settings.stop) == (7, None)


def test_unknown_and_wrong_settings_are_refused():
    with pytest.raises(RequestError, match=r"no tools, x; it takes temperature"):
        CallSettings().for_call({"x": 1, "tools": []})
    for wrong in (
        {"max_tokens": 0},
        {"temperature": "hot"},
        {"temperature": float("nan")},
        {"top_p": 1.1},
        {"stop": [""]},
        {"seed": 2**64},
        {"stop": 3},
    ):
        with pytest.raises(RequestError, match=f"bad settings of a call: {next(iter(wrong))}"):
            CallSettings().for_call(wrong)
    with pytest.raises(RequestError, match="max_tiles"):
        CallSettings(max_tiles=2).for_call({"min_tiles": 3})
    with pytest.raises(ValidationError, match="image_order"):
        CallSettings(image_order="backwards")


def test_tile_limits():
    own = TileLimits(1, 12)
    assert CallSettings().tile_limits(own) == own
    assert CallSettings(max_tiles=3).tile_limits(own) == TileLimits(1, 3)
    assert CallSettings(min_tiles=20).tile_limits(own) == TileLimits(20, 20)
    with pytest.raises(ValidationError, match="min_tiles <= max_tiles"):
        CallSettings(min_tiles=4, max_tiles=3)


def test_no_most_tokens_means_the_default_and_in_a_call_the_models_own():
    assert CallSettings(max_tokens=None).max_tokens == 1024
    assert CallSettings(max_tokens=5).for_call({"max_tokens": None}).max_tokens == 5


def test_whole_numbers_and_fractions_of_generation_configs():
    stored = {"do_sample": True, "temperature": 1, "top_k": 20.0, "repetition_penalty": 2}
    assert CallSettings().sampling(stored) == Sampling(1.0, 1.0, 20, 2.0)
    with pytest.raises(RequestError, match="top_k is a whole number"):
        CallSettings().sampling({"top_k": 1.5})


def test_one_stop_text_need_not_be_a_list():
    assert CallSettings(stop="END").stop == ["END"]
    assert CallSettings().for_call({"stop": "END"}).stop == ["END"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"repetition_penalty": 0},
        {"seed": 2**64},
    ],
)
def test_sampling_out_of_range(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Sampling(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"top_logprobs": 21}, {"top_logprobs": -1}, {"timeout": 0}]
)
def test_requests_out_of_range(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Request([1], **wrong)


def test_an_empty_prompt_is_refused():
    with pytest.raises(PromptError, match="empty"):
        Request([])
