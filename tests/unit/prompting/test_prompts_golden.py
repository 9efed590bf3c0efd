"""Prompts, text and token ids, of the reference: every recorded case."""

import pytest
from golden import (
    NOT_EXPRESSIBLE,
    NotExpressibleError,
    by_id,
    case_name,
    checkpoint_folder,
    load,
    prompt_cases,
    prompt_ids,
    run_lengths,
    to_messages,
)

from langchain_internvl import ChatInternVL
from langchain_internvl.messages.conversation import Turn
from langchain_internvl.prompting.build import LaidOutTurn, frame_turns
from langchain_internvl.prompting.segments import Prompt, Slot, Words
from langchain_internvl.prompting.templates import TEMPLATES, get_template

pytestmark = pytest.mark.golden

TOKENS_PER_TILE = load("prompts.json")["num_image_token_per_tile"]


@pytest.fixture(scope="module")
def chat_model():
    kept = {}

    def get(tokenizer, template, **settings):
        key = tokenizer, template
        if key not in kept:
            kept[key] = ChatInternVL(
                model=str(checkpoint_folder(tokenizer)), chat_template=template
            )
        return kept[key].model_copy(update=settings)

    return get


@pytest.mark.parametrize("case", **by_id(prompt_cases(method="chat")))
def test_chat_prompt(case, chat_model):
    try:
        messages, settings = to_messages(case)
    except NotExpressibleError:
        assert case_name(case) in NOT_EXPRESSIBLE
        pytest.skip(NOT_EXPRESSIBLE[case_name(case)])
    llm = chat_model(case["tokenizer"], case["template"], **settings)
    ids = prompt_ids(case, case["input_ids_rle"])
    assert llm.render(messages) == case["prompt_unexpanded"]
    assert llm.render(messages, expand=True) == case["prompt"]
    assert llm.prompt_ids(messages) == ids
    assert llm.get_num_tokens_from_messages(messages) == len(ids)


@pytest.mark.parametrize("case", **by_id(prompt_cases(method="batch_chat")))
def test_batch_chat_prompts(case, chat_model):
    if "error" in case:
        assert case_name(case) in NOT_EXPRESSIBLE
        pytest.skip(NOT_EXPRESSIBLE[case_name(case)])
    for row, question in enumerate(case["questions"]):
        image = [case["images"][row]] if case["images"] else None
        single = {**case, "images": image, "num_patches_list": [1] if image else None}
        messages, settings = to_messages(single, question)
        llm = chat_model(case["tokenizer"], case["template"], **settings)
        padded = prompt_ids(case, case["input_ids_rle"][row])
        mask = run_lengths(case["attention_mask_rle"][row])
        ids = run_lengths(case["input_ids_rle"][row])[mask.count(0) :]
        ids = prompt_ids(case, [(one, 1) for one in ids])
        assert len(padded) >= len(ids)
        assert llm.render(messages, expand=True) == case["prompts"][row]
        assert llm.prompt_ids(messages) == ids


@pytest.mark.parametrize(
    "case",
    **by_id(
        [
            case
            for case in prompt_cases(method="chat")
            if case_name(case) in NOT_EXPRESSIBLE and "error" not in case
        ]
    ),
)
def test_prompt_that_blocks_cannot_express_is_rendered_the_same(case, tokenizers):
    """One level down: words and slots are put where the reference has them."""
    tokenizer = tokenizers(case["tokenizer"])
    template = get_template(case["template"])
    patches = case["num_patches_list"] or []
    slots = 0

    def segments(text):
        nonlocal slots
        found = []
        for index, words in enumerate(text.split("<image>")):
            if index and slots < len(patches):
                found.append(Slot((slots,)))
                slots += 1
            if words:
                found.append(Words(words))
        return tuple(found)

    system = case["system_message"]
    turns = [("system", template.default_system if system is None else system)]
    for said, answer in case["history"] or []:
        turns += [("user", said), ("assistant", answer)]
    turns.append(("user", case["question"]))
    laid_out = [LaidOutTurn(Turn(role), segments(text)) for role, text in turns]
    prompt = Prompt(frame_turns(laid_out, template), tuple([None] * slots))
    tokens = [count * TOKENS_PER_TILE for count in patches[:slots]]
    assert prompt.to_text() == case["prompt_unexpanded"]
    assert prompt.to_text(tokens) == case["prompt"]
    assert tokenizer.encode(prompt, tokens) == prompt_ids(case, case["input_ids_rle"])


@pytest.mark.parametrize("name", sorted(load("prompts.json")["templates"]))
def test_template_is_the_recorded_one(name, tokenizers):
    recorded, template = load("prompts.json")["templates"][name], TEMPLATES[name]
    assert template.default_system == recorded["default_system_message"]
    assert template.stop == recorded["stop_text"]
    assert template.system.open == recorded["system_prefix"]
    user, assistant = recorded["roles"]
    assert template.user.open.startswith(user)
    assert template.assistant.open.startswith(assistant)


@pytest.mark.parametrize(
    "case", **by_id([case for case in prompt_cases(method="chat") if "error" not in case])
)
def test_stop_token_is_the_recorded_one(case, tokenizers):
    tokenizer = tokenizers(case["tokenizer"])
    assert tokenizer.stop_id(get_template(case["template"]).stop) == case["eos_token_id"]


ZH_CASES = load("prompts_zh_llama.json")["cases"]


@pytest.mark.parametrize("case", **by_id(ZH_CASES))
def test_prompts_that_begin_with_a_space(case, chat_model):
    """Template `internvl_zh` with a tokenizer of type LLaMA: the leading space is a piece.

    The recording names the folder `tiny-internvl2-llama`, whose tokenizer has no `</s>`; its ids
    are those of the Phi3 checkpoint, which has a LlamaTokenizer too.
    """
    messages = [("system", case["system"])] if case["system"] is not None else []
    for question, answer in case["turns"]:
        messages.append(("human", question))
        if answer is not None:
            messages.append(("ai", answer))
    llm = chat_model("tiny-internvl2-phi3", "internvl_zh")
    assert llm.prompt_ids(messages) == case["prompt_ids"]
