"""Generations of the reference: greedy token ids, through the engine and through ChatInternVL."""

import random

import numpy as np
import pytest
from golden import (
    GOLDEN,
    NOT_EXPRESSIBLE,
    TINY,
    NotExpressibleError,
    by_id,
    case_name,
    checkpoint_folder,
    expected_reply,
    to_messages,
)
from langchain_core.messages import AIMessage, HumanMessage
from reference import (
    AFTER_LONG,
    BATCHES,
    CHAINS,
    ERRORS,
    SAME_TEXT,
    SINGLE,
    model_of,
    reference_request,
    tiles_of,
    until_stop,
)
from support import RecordingBackend, decode
from videos import write_clip

from langchain_internvl import image_block, video_block
from langchain_internvl.backends.transformers.vision import encode_tiles
from langchain_internvl.errors import PromptError
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import PathSource

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("case", **by_id(SINGLE))
def test_engine_generates_the_recorded_ids(case, loops):
    engine = loops(model_of(case))
    request = reference_request(case, engine)
    ((ids, text),) = decode(engine.loop, request)
    assert len(request.prompt_ids) == case["prompt_tokens"]
    assert ids == until_stop(case)
    if model_of(case) in SAME_TEXT:
        assert expected_reply(text) == case["response"]


@pytest.mark.parametrize("case", **by_id(SINGLE))
def test_chat_model_generates_the_recorded_ids(case, models):
    try:
        messages, settings = to_messages(case)
    except NotExpressibleError:
        assert case_name(case) in NOT_EXPRESSIBLE
        pytest.skip(NOT_EXPRESSIBLE[case_name(case)])
    if "tile_order" in case:
        pytest.skip(NOT_EXPRESSIBLE[case_name(case)])
    llm = models(model_of(case))
    recorder = RecordingBackend(llm._backend(llm._renderer(llm)))
    reply = llm.model_copy(update={"backend": recorder, **settings}).invoke(messages)
    (ids,) = recorder.replies
    assert ids == until_stop(case)
    assert reply.usage_metadata["input_tokens"] == case["prompt_tokens"]
    assert reply.usage_metadata["output_tokens"] == case["num_tokens_until_stop"]
    assert reply.response_metadata["finish_reason"] == ("stop" if case["stopped"] else "length")
    if model_of(case) in SAME_TEXT:
        assert expected_reply(reply.content) == case["response"]


@pytest.mark.parametrize("case", **by_id(BATCHES))
def test_merged_rows_generate_the_recorded_ids(case, loops):
    """All rows of a batch in one running batch of the decode loop."""
    engine = loops(model_of(case))
    requests = [
        reference_request(case, engine, question, [case["images"][row]] if case["images"] else [])
        for row, question in enumerate(case["questions"])
    ]
    replies = decode(engine.loop, *requests)
    for (ids, text), row in zip(replies, case["rows"], strict=True):
        assert ids == until_stop(row)
        if model_of(case) in SAME_TEXT:
            assert expected_reply(text) == row["response"]


@pytest.mark.parametrize("name", TINY)
def test_rows_that_join_and_leave_at_any_step_generate_the_recorded_ids(name, loops):
    """Every recorded generation of a checkpoint, started in random order at random steps."""
    engine = loops(name)
    chance = random.Random(0)
    waiting = [case for case in SINGLE if model_of(case) == name]
    chance.shuffle(waiting)
    expected, most = {}, 0
    while waiting or engine.loop.sequences:
        while waiting and (not engine.loop.sequences or chance.random() < 0.3):
            case = waiting.pop()
            row, _ = engine.loop.add(reference_request(case, engine))
            expected[row] = case
        most = max(most, len(engine.loop.sequences))
        engine.loop.step()
    assert most > 3
    for row, case in expected.items():
        assert row.reply == until_stop(case), case["id"]


VIDEOS = [case for case in SINGLE if "Frame1: " in case["question"] and not case["history"]]


@pytest.mark.parametrize("case", **by_id(VIDEOS))
def test_a_video_file_generates_what_its_frames_do(case, models, tmp_path):
    """The recorded frames, each three times in a lossless clip: its middles are those frames."""
    frames = [np.asarray(load_rgb(PathSource(GOLDEN / image["file"]), MediaPolicy()))
              for image in case["images"]]  # fmt: skip
    clip = [frame for frame in frames for _ in range(3)]
    path = write_clip(tmp_path / "clip.avi", clip, codec="ffv1", pix_fmt="bgr0")
    question = case["question"].split("\n", len(frames))[-1]
    llm = models(model_of(case))
    recorder = RecordingBackend(llm._backend(llm._renderer(llm)))
    recorded = llm.model_copy(update={"backend": recorder})
    video = video_block(path, num_frames=len(frames))
    recorded.invoke([HumanMessage([video, {"type": "text", "text": question}])])
    assert recorder.replies == [until_stop(case)]


@pytest.mark.parametrize("case", **by_id(CHAINS))
def test_chain_of_turns_generates_the_recorded_replies(case, models):
    """Each turn continues the recorded ones, through ChatInternVL."""
    llm = models(model_of(case))
    image = case["images"][0]
    block = image_block(GOLDEN / image["file"], max_tiles=image["max_num"])
    messages = []
    for turn in case["turns"]:
        text = turn["question"].removeprefix("<image>\n")
        content = [block, {"type": "text", "text": text}] if not messages else text
        messages.append(HumanMessage(content))
        reply = llm.invoke(messages).content
        if model_of(case) in SAME_TEXT:
            assert expected_reply(reply) == turn["response"]
        else:  # spacing of transformers 4; see above
            assert _letters(reply) == _letters(turn["response"])
        messages.append(AIMessage(turn["response"]))


def _letters(text):
    """Letters of a reply, without special tokens that the slow decoders show."""
    for shown in ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|user|>"):
        text = text.replace(shown, "")
    return "".join(char for char in text if char.isascii() and char.isalnum())


@pytest.mark.parametrize("case", **by_id(ERRORS))
def test_errors_of_the_reference_are_typed_errors(case, loops):
    engine = loops(model_of(case))
    request = reference_request(case, engine)
    with pytest.raises(PromptError, match="context tokens"):
        engine.loop.add(request)
    assert not engine.loop.sequences


@pytest.mark.parametrize("case", **by_id(AFTER_LONG))
def test_short_prompt_after_a_long_one_is_as_on_a_fresh_model(case, loops):
    """The reference keeps the rope base of the long prompt; here nothing is left over."""
    engine = loops(model_of(case))
    recorded = {case_name(one): one for one in SINGLE if one["model"] == case["model"]}
    request = reference_request(case, engine)
    ((fresh, _),) = decode(engine.loop, request)
    longest = max(recorded.values(), key=lambda one: one["prompt_tokens"])
    decode(engine.loop, reference_request(longest, engine))
    ((after, _),) = decode(engine.loop, request)
    assert after == fresh
    if "text" in recorded:
        assert after == until_stop(recorded["text"])


@pytest.mark.parametrize("case", **by_id([case for case in SINGLE if case.get("pixel_values")]))
def test_image_features_are_the_recorded_ones(case, loops):
    engine = loops(model_of(case))
    recorded = case["vit_embeds"]
    features = encode_tiles(engine.model, tiles_of(case)).detach().numpy()
    per_tile = engine.checkpoint.tokens_per_tile
    assert [len(features) // per_tile, per_tile, features.shape[1]] == recorded["shape"]
    assert features.mean() == pytest.approx(recorded["mean"], abs=1e-4)
    assert features.std() == pytest.approx(recorded["std"], abs=1e-4)


def test_every_checkpoint_is_covered():
    assert {model_of(case) for case in SINGLE} == set(TINY)
    assert all(checkpoint_folder(name).is_dir() for name in TINY)
