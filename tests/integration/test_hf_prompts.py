"""Prompts of -hf checkpoints, compared with transformers' `apply_chat_template`."""

import json

import pytest
from checkpoints import JINJA, original_config, random_model, write_hf
from golden import GOLDEN
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from support import FixedBackend
from transformers import AutoTokenizer

from langchain_internvl import ChatInternVL, image_block, video_block

IMAGE = GOLDEN / "images/rgb_1344x896.png"
FRAMES = [GOLDEN / f"images/frame_{index}.png" for index in range(3)]
TOKENS = 256
EOS_IDS = (1000, 1001)


@pytest.fixture(scope="module")
def hf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    write_hf(folder, random_model(original_config()), min_patches=1, max_patches=2)
    eos = json.dumps({"eos_token_id": EOS_IDS})
    (folder / "generation_config.json").write_text(eos, "utf-8")
    llm = ChatInternVL(model=str(folder), dtype="float32", max_tokens=4, number_images=False)
    yield llm, AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    llm.close()


def both(text, *media):
    """Content as LangChain's blocks and as transformers' template takes it."""
    blocks, items = [], []
    for kind in media:
        if kind == "image":
            blocks.append(image_block(IMAGE))
        else:
            blocks.append(video_block(FRAMES))
        items.append({"type": kind})
    if text:
        blocks.append({"type": "text", "text": text})
        items.append({"type": "text", "text": text})
    return blocks, items


def expand(prompt):
    """What transformers' processor puts for the placeholders (processing_internvl.py)."""
    image = f"<img>{'<IMG_CONTEXT>' * (3 * TOKENS)}</img>"
    frame = f"<img>{'<IMG_CONTEXT>' * TOKENS}</img>"
    frames = "\n".join(f"Frame{number}: {frame}" for number in range(1, len(FRAMES) + 1))
    return prompt.replace("<IMG_CONTEXT>", image).replace("<video>", frames)


CONVERSATIONS = {
    "text": [("user", "Hello")],
    "empty": [("user", "")],
    "empty reply": [("user", "Hello"), ("assistant", ""), ("user", "Again")],
    "system": [("system", "Be terse."), ("user", "Hello")],
    "empty system": [("system", ""), ("user", "Hello")],
    "turns": [("user", "Hello"), ("assistant", "Hi."), ("user", " spaces \n")],
    "same role twice": [("user", "One"), ("user", "Two"), ("assistant", "a"), ("assistant", "b")],
    "system in the middle": [("user", "One"), ("system", "Now."), ("user", "Two")],
    "image": [("user", ("What?", "image"))],
    "images": [("user", ("Which?", "image", "image"))],
    "image alone": [("user", ("", "image"))],
    "video": [("user", ("What happens?", "video"))],
    "image and video": [("user", ("Compare.", "image", "video"))],
    "image in an earlier turn": [
        ("user", ("a", "image")),
        ("assistant", "b"),
        ("user", ("c", "image")),
    ],
}

MESSAGES = {"user": HumanMessage, "assistant": AIMessage, "system": SystemMessage}


@pytest.mark.parametrize("turns", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_prompt_equals_apply_chat_template(turns, hf):
    llm, tokenizer = hf
    messages, items = [], []
    for role, content in turns:
        blocks = items_of = content
        if isinstance(content, tuple):
            blocks, items_of = both(*content)
        messages.append(MESSAGES[role](blocks))
        items.append({"role": role, "content": items_of})
    prompt = tokenizer.apply_chat_template(
        items, chat_template=JINJA, tokenize=False, add_generation_prompt=True
    )
    expected = expand(prompt)
    assert llm.render(messages, expand=True) == expected
    assert llm.prompt_ids(messages) == tokenizer(expected)["input_ids"]


def test_replies_end_at_the_end_tokens_of_the_checkpoint_too(hf):
    llm, tokenizer = hf
    backend = FixedBackend()
    llm.model_copy(update={"backend": backend}).invoke("x")
    stop_ids = backend.requests[0].stop_ids
    assert stop_ids == {tokenizer.convert_tokens_to_ids("<|im_end|>"), *EOS_IDS}


def test_reply(hf):
    llm, _ = hf
    reply = llm.invoke([HumanMessage(both("What?", "image")[0])])
    assert 1 <= reply.usage_metadata["output_tokens"] <= 4
    assert reply.usage_metadata["input_tokens"] > 3 * TOKENS
