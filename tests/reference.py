"""The recorded generations of the reference, and the requests that it makes."""

import numpy as np
from golden import GOLDEN, TINY, chat_cases, prompt_cases

from langchain_internvl.backends.base import Request
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import PathSource
from langchain_internvl.media.tiling import tile_image
from langchain_internvl.messages.conversation import Turn
from langchain_internvl.prompting.build import LaidOutTurn, frame_turns
from langchain_internvl.prompting.segments import Prompt, Slot, Words

MAX_TOKENS = 24
# Replies of these tokenizers are recorded with the spacing of transformers 4's slow decoders.
SAME_TEXT = ("internlm2", "qwen2")


def cases_of(*, method=None, failed=False):
    return [
        case
        for name in TINY
        for case in chat_cases(name)
        if (method is None or case["method"] == method) and ("error" in case) == failed
    ]


SINGLE = [case for case in cases_of(method="chat") if "prompt_tokens" in case]
BATCHES = cases_of(method="batch_chat")
CHAINS = [case for case in cases_of() if "turns" in case]
ERRORS = [
    *(case for case in cases_of(failed=True) if case["method"] == "chat"),
    *(
        {**case, "model": case["tokenizer"]}
        for case in prompt_cases(method="chat")
        if "error" in case
    ),
]
AFTER_LONG = [case for case in cases_of() if "equals_fresh_instance" in case]


def model_of(case):
    return case["model"].removeprefix("tiny-internvl2-")


def until_stop(row):
    return row["tokens"][: row["num_tokens_until_stop"]]


def tiles_of(case):
    tiles = [
        tile_image(load_rgb(PathSource(GOLDEN / image["file"]), MediaPolicy()), 1, image["max_num"])
        for image in case["images"] or ()
    ]
    order = case.get("tile_order")
    return [np.concatenate(tiles)[order]] if order else tiles


def reference_request(case, engine, question=None, images=None):
    """The request that the reference makes: its own placing of tags, no content blocks."""
    question = case["question"] if question is None else question
    images = case["images"] if images is None else images
    patches = case.get("num_patches_list") if images else None
    if images is not case["images"]:
        patches = [len(tiles) for tiles in tiles_of({"images": images})]
    if images and not case.get("history") and "<image>" not in question:
        question = "<image>\n" + question
    slots = 0

    def segments(text):
        nonlocal slots
        found = []
        for index, words in enumerate(text.split("<image>") if images else [text]):
            if index and slots < len(patches):
                found.append(Slot((slots,)))
                slots += 1
            if words:
                found.append(Words(words))
        return tuple(found)

    system = case.get("system_message")
    turns = [("system", engine.template.default_system if system is None else system)]
    for said, answer in case.get("history") or []:
        turns += [("user", said), ("assistant", answer)]
    turns.append(("user", question))
    laid_out = [LaidOutTurn(Turn(role), segments(text)) for role, text in turns]
    prompt = Prompt(frame_turns(laid_out, engine.template), tuple([None] * slots))
    tokens = [count * engine.checkpoint.tokens_per_tile for count in (patches or [])[:slots]]
    return Request(
        engine.tokenizer.encode(prompt, tokens),
        tiles_of({**case, "images": images}),
        max_tokens=MAX_TOKENS,
        stop_ids=engine.stop_ids,
        stop=[engine.template.stop],
    )
