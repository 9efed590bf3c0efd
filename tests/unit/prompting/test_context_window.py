"""Prompt and reply within the context window."""

import pytest
from golden import GOLDEN, checkpoint_folder
from langchain_core.exceptions import ContextOverflowError as LangChainOverflowError
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, trim_messages
from support import FixedBackend

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Delta
from langchain_internvl.checkpoint import open_checkpoint
from langchain_internvl.errors import ContextOverflowError, PromptError
from langchain_internvl.prompting.tokenization import load_tokenizer

IMAGE = GOLDEN / "images/rgb_1344x896.png"


@pytest.fixture
def backend():
    return FixedBackend()


def chat(backend, name="qwen2", **settings):
    return ChatInternVL(model=str(checkpoint_folder(name)), backend=backend, **settings)


def test_a_reply_is_shortened_to_what_the_window_leaves(backend):
    llm = chat(backend, context_window=300, max_tokens=200)
    length = len(llm.prompt_ids("Hello"))
    for wanted, expected in ((50, 50), (300 - length, 300 - length), (200, 300 - length)):
        llm.invoke("Hello", max_tokens=wanted)
        assert backend.requests[-1].max_tokens == expected
    llm.invoke("Hello", context_window=length + 1)
    assert backend.requests[-1].max_tokens == 1


def test_a_prompt_over_the_window_says_what_makes_it_long(backend):
    llm = chat(backend, context_window=1000)
    pictures = [image_block(IMAGE, max_tiles=2), image_block(IMAGE, max_tiles=1)]
    message = HumanMessage([*pictures, {"type": "text", "text": "What?"}])
    length = len(llm.prompt_ids([message]))
    with pytest.raises(ContextOverflowError) as caught:
        llm.invoke([message])
    told = str(caught.value)
    assert f"has {length} tokens, and the context window 1000" in told
    assert (
        "image 1 (message 1 (human), block 1): 768, image 2 (message 1 (human), block 2): 256"
        in told
    )
    assert f"text: {length - 1024}" in told
    assert "lower max_tiles" in told
    assert isinstance(caught.value, LangChainOverflowError)
    assert isinstance(caught.value, PromptError)
    assert not backend.requests
    with pytest.raises(ContextOverflowError, match=r"To fit, leave out earlier messages"):
        llm.invoke("word " * 2000)
    many = [image_block(IMAGE, max_tiles=2), *[image_block(IMAGE, max_tiles=1)] * 11]
    told = r"image 1 \(.*\): 768, images 2 \(.*block 2\) to 12 \(.*block 12\): 256 each, text"
    with pytest.raises(ContextOverflowError, match=told):
        llm.invoke([HumanMessage(many)])


def test_no_image_is_decoded_for_a_prompt_that_is_too_long(backend, monkeypatch):
    monkeypatch.setattr(
        "langchain_internvl.requests.prompt_request.use_rgb", lambda *_, **__: 1 / 0
    )
    with pytest.raises(ContextOverflowError):
        chat(backend, context_window=1000).invoke([HumanMessage([image_block(IMAGE)])])


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("strategy", ["first", "last"])
def test_messages_are_trimmed_to_exact_counts(backend, strategy, partial):
    llm = chat(backend)
    messages = [HumanMessage("One. " * 20), AIMessage("Two. " * 20), HumanMessage("Three.\n" * 9)]
    whole = llm.get_num_tokens_from_messages(messages)
    assert llm.get_num_tokens_from_messages([]) == 0
    for budget in (1, 100, whole - 1, whole):
        kept = trim_messages(
            messages, token_counter=llm, max_tokens=budget, strategy=strategy,
            allow_partial=partial,
        )  # fmt: skip
        assert llm.get_num_tokens_from_messages(kept) <= budget
        assert (kept == messages) is (budget == whole)


def test_the_window_is_what_is_set_then_the_tokenizers_then_the_configs(backend, monkeypatch):
    llm = chat(backend, max_tokens=100_000)
    length = len(llm.prompt_ids("Hello"))
    llm.invoke("Hello")
    assert backend.requests[-1].max_tokens == 8192 - length
    llm.invoke("Hello", context_window=20_000)
    assert backend.requests[-1].max_tokens == 20_000 - length
    tokenizer = llm._renderer(llm).tokenizer
    # The tokenizer is shared by all models of the checkpoint.
    monkeypatch.setattr(tokenizer._tokenizer, "model_max_length", 10**30)
    llm.invoke("Hello")
    assert backend.requests[-1].max_tokens == 32768 - length


@pytest.mark.parametrize(
    ("name", "length"), [("internlm2", 4096), ("qwen2", 32768), ("phi3", 8192), ("llama", 4096)]
)
def test_lengths_of_the_tiny_checkpoints(name, length):
    """InternLM2's is twice what it was trained for: its dynamic rope has factor 2."""
    assert open_checkpoint(str(checkpoint_folder(name))).max_length == length
    assert load_tokenizer(checkpoint_folder(name)).model_max_length == 8192


# Thoughts, through the chat model.


def think(*texts):
    deltas = [Delta(1, text) for text in texts[:-1]]
    return FixedBackend(*deltas, Delta(2, texts[-1], "stop"))


def test_thoughts_become_reasoning_blocks():
    llm = chat(think("<thi", "nk>\nHm", "m.", "\n</think>\n", "\nA", " cat."))
    reply = llm.invoke("x")
    assert reply.content == "A cat."
    assert reply.content_blocks == [
        {"type": "reasoning", "reasoning": "Hmm."},
        {"type": "text", "text": "A cat."},
    ]
    assert reply.usage_metadata["output_tokens"] == 6
    assert reply.usage_metadata["output_token_details"] == {"reasoning": 4}
    chunks = list(llm.stream("x"))
    assert "".join(chunk.content for chunk in chunks) == "A cat."
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content_blocks == reply.content_blocks


def test_thoughts_stay_out_of_later_turns():
    llm = chat(think("<think>secret</think>", "A cat."))
    reply = llm.invoke("x")
    v1 = llm.model_copy(update={"output_version": "v1"}).invoke("x")
    assert v1.content[0] == {"type": "reasoning", "reasoning": "secret"}
    for said in (reply, v1, AIMessage(v1.content_blocks)):
        prompt = llm.render([HumanMessage("x"), said, HumanMessage("y")])
        assert "secret" not in prompt
        assert prompt == llm.render([HumanMessage("x"), AIMessage("A cat."), HumanMessage("y")])
    raw = AIMessage("<think>\nsecret</think>\n\nA cat.")  # of a model that was asked elsewhere
    assert llm.render([HumanMessage("x"), raw, HumanMessage("y")]) == prompt
    assert "<think> open" in llm.render([AIMessage("<think> open")])


def test_thinking_is_switched_by_its_system_text():
    llm = chat(think("A cat."))
    assert "within <think> and </think> tags" in llm.render("x", reasoning=True)
    assert "think" not in llm.render("x")
    for own in (
        llm.render("x", reasoning=True, default_system="Mine."),
        llm.render([SystemMessage("Mine."), HumanMessage("x")], reasoning=True),
    ):
        assert "not reference the thinking section.\n\nMine.<|im_end|>" in own
    asked = llm.render("x", reasoning=True)
    assert llm.render("x", reasoning=True, default_system=None) == asked
    assert llm.invoke("x").usage_metadata.get("output_token_details") is None
