"""Token ids that no text can forge, equal to the tokenizer's own for everything else."""

import json
import shutil
from collections import Counter
from types import SimpleNamespace

import pytest
from golden import TINY, checkpoint_folder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_internvl import ChatInternVL
from langchain_internvl.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    PromptError,
    UnsupportedCheckpointError,
)
from langchain_internvl.prompting.segments import Markup, Prompt, Slot, Words
from langchain_internvl.prompting.templates import get_template
from langchain_internvl.prompting.tokenization import (
    GROUNDING_MARKUP,
    PromptTokenizer,
    load_tokenizer,
)

WORD_PIECE = json.dumps(
    {
        "added_tokens": [
            {"id": n, "content": content, "special": True, "lstrip": False, "rstrip": False}
            for n, content in enumerate(("<img>", "<IMG_CONTEXT>", "</img>"))
        ],
        "model": {"type": "WordPiece", "vocab": {}},
        "decoder": {"type": "WordPiece"},
    }
)

TEMPLATES = {
    "internlm2": ("internlm2-chat", "internvl2_5", "internvl_zh"),
    "qwen2": ("Hermes-2", "internvl2_5"),
    "qwen3": ("internvl2_5", "internvl-hf"),
    "phi3": ("phi3-chat",),
    "llama": ("Hermes-2",),
}


def qwen3_folder(tmp_path_factory):
    """A tokenizer with the tokens that Qwen2.5 and Qwen3 have besides, none of them special."""
    folder = tmp_path_factory.mktemp("qwen3")
    for file in checkpoint_folder("qwen2").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    settings_file = folder / "tokenizer_config.json"
    config = json.loads(settings_file.read_text("utf-8"))
    more = (
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "</tool_response>",
        "<think>",
        "</think>",
    )
    for number, content in enumerate(more, 1012):
        config["added_tokens_decoder"][str(number)] = {
            "content": content, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": False,
        }  # fmt: skip
    settings_file.write_text(json.dumps(config), "utf-8")
    added = folder / "added_tokens.json"
    known = json.loads(added.read_text("utf-8"))
    added.write_text(
        json.dumps(known | {content: number for number, content in enumerate(more, 1012)}), "utf-8"
    )
    return folder


@pytest.fixture(scope="module", params=TEMPLATES)
def family(request, tmp_path_factory):
    folder = (
        qwen3_folder(tmp_path_factory)
        if request.param == "qwen3"
        else checkpoint_folder(request.param)
    )
    return request.param, folder, load_tokenizer(folder)


def plain_text(tokenizer, ids):
    """The words of a prompt: the bytes of all ids that are no added tokens."""
    control = {token.id for token in tokenizer.added_tokens}
    return b"".join(tokenizer.token_bytes[one] for one in ids if one not in control).decode()


def control_ids(tokenizer, ids):
    control = {token.id for token in tokenizer.added_tokens}
    return Counter(one for one in ids if one in control)


def conversations(text):
    """The text as what anyone may say, at the start, in the middle and at the end."""
    for words in (f"{text} some words", f"some {text} words", f"some words {text}", text):
        yield [HumanMessage(words)]
        yield [SystemMessage(words), HumanMessage("question")]
        yield [HumanMessage("question"), AIMessage(words), HumanMessage("again")]
        call = {"name": "look", "args": {"at": words}, "id": "1"}
        yield [
            HumanMessage("question"),
            AIMessage("", tool_calls=[call]),
            ToolMessage(words, tool_call_id="1"),
        ]


def test_no_text_forges_a_control_token(family):
    name, folder, tokenizer = family
    hostile = [
        token.content for token in tokenizer.added_tokens if token.content not in GROUNDING_MARKUP
    ]
    assert len(hostile) > 5
    for template in TEMPLATES[name]:
        llm = ChatInternVL(model=str(folder), chat_template=template)
        harmless = [
            control_ids(tokenizer, llm.prompt_ids(messages))
            for messages in conversations("harmless")
        ]
        for text in hostile:
            for messages, expected in zip(conversations(text), harmless, strict=True):
                ids = llm.prompt_ids(messages)
                assert control_ids(tokenizer, ids) == expected, (text, messages)
                assert text in plain_text(tokenizer, ids), (text, messages)


def test_many_control_tokens_at_once_are_words_too(family):
    name, folder, tokenizer = family
    text = "".join(
        token.content for token in tokenizer.added_tokens if token.content not in GROUNDING_MARKUP
    )
    llm = ChatInternVL(model=str(folder), chat_template=TEMPLATES[name][0])
    ids = llm.prompt_ids(text)
    assert control_ids(tokenizer, ids) == control_ids(tokenizer, llm.prompt_ids("x"))
    assert text in plain_text(tokenizer, ids)


def test_pieces_of_the_vocabulary_that_became_control_tokens_are_not_made_either(family):
    """InternLM2's vocabulary calls `<|im_start|>` by an older name, `[UNUSED_TOKEN_...]`."""
    _, _, tokenizer = family
    control = {token.id for token in tokenizer.added_tokens}
    vocabulary = tokenizer._vocabulary
    for piece, index in vocabulary.items():
        if index in control:
            assert not control & set(tokenizer.encode_text(f"a {piece} b{piece}"))


def test_tool_names_and_arguments_are_words(family):
    name, folder, tokenizer = family
    llm = ChatInternVL(model=str(folder), chat_template=TEMPLATES[name][0])

    def ids(text):
        call = {"name": text, "args": {text: text}, "id": "1"}
        return llm.prompt_ids([HumanMessage("x"), AIMessage("", tool_calls=[call])])

    for token in tokenizer.added_tokens:
        if token.content not in GROUNDING_MARKUP:
            assert control_ids(tokenizer, ids(token.content)) == control_ids(tokenizer, ids("name"))


def test_grounding_markup_is_for_everyone(family):
    _, _, tokenizer = family
    ids = tokenizer.encode_text("<ref>cat</ref><box>[[1, 2, 3, 4]]</box>")
    contents = [token.content for one in ids for token in tokenizer.added_tokens if token.id == one]
    assert contents == ["<ref>", "</ref>", "<box>", "</box>"]


TEXTS = st.text(
    alphabet=st.one_of(
        st.characters(codec="utf-8", exclude_categories=["Cs"]), st.sampled_from(" \n\t▁aZ0.,<|>")
    ),
    max_size=40,
)


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("name", TINY)
def test_ordinary_text_has_the_ids_of_the_whole_string(name, text, tokenizers):
    tokenizer = tokenizers(name)
    if any(token.content in text for token in tokenizer.added_tokens):
        return
    template = get_template(TEMPLATES[name][0])
    prompt = Prompt((Markup(template.user.open), Words(text), Markup(template.user.close)))
    assert tokenizer.encode(prompt, []) == tokenizer._tokenizer(prompt.to_text())["input_ids"]


@example(parts=[(False, " ")])
@example(parts=[(False, "\u2581a")])
@given(parts=st.lists(st.tuples(st.booleans(), TEXTS), max_size=6))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("name", TINY)
def test_any_mix_of_template_and_words_has_the_ids_of_the_whole_string(name, parts, tokenizers):
    tokenizer = tokenizers(name)
    if any(token.content in text for token in tokenizer.added_tokens for _, text in parts):
        return
    markup = get_template(TEMPLATES[name][0])
    segments = [Markup(markup.user.open) if trusted else Words(text) for trusted, text in parts]
    prompt = Prompt(tuple(segments))
    if any(
        token.content in prompt.to_text().replace(markup.user.open, "")
        for token in tokenizer.added_tokens
    ):
        return
    text = prompt.to_text()
    if tokenizer._adds_prefix and text[:1] in {" ", "\u2581"}:
        text = f" {text}"  # as in the reference; transformers 5 puts no prefix before a space
    assert tokenizer.encode(prompt, []) == tokenizer._tokenizer(text)["input_ids"]


def test_images_are_context_tokens(tiny, tokenizers):
    tokenizer = tokenizers(tiny)
    prompt = Prompt((Slot((0, 1)), Markup("\n"), Slot((2,))), (None, None, None))
    ids = tokenizer.encode(prompt, [2, 3, 4])
    assert ids.count(tokenizer.image_context_id) == 9
    whole = tokenizer._tokenizer(prompt.to_text([2, 3, 4]))["input_ids"]
    assert ids == whole
    with pytest.raises(PromptError, match="3 images"):
        tokenizer.encode(prompt, [2, 3])


def test_start_token_is_in_front_once(tiny, tokenizers):
    tokenizer = tokenizers(tiny)
    prompt = Prompt((Words("a"),))
    start = {"internlm2": [1], "phi3": [1], "qwen2": [], "llama": []}[tiny]
    assert tokenizer.encode(prompt, [])[: len(start)] == start
    assert tokenizer.encode_text("a")[:1] != [1]


def test_unknown_stop_text(tokenizers):
    with pytest.raises(PromptError, match="own template"):
        tokenizers("qwen2").stop_id("<|end|>")


def test_words_that_are_looked_up_whole_are_no_control_tokens_either(tokenizers):
    """Llama 3's way (`ignore_merges`), with a control token that is a piece of the vocabulary."""
    state = json.loads(tokenizers("qwen2")._tokenizer.backend_tokenizer.to_str())
    state["model"]["ignore_merges"] = True
    state["model"]["vocab"]["forged"] = 1001
    backend = SimpleNamespace(to_str=lambda: json.dumps(state))
    tokenizer = PromptTokenizer(
        SimpleNamespace(backend_tokenizer=backend, encode=lambda *args, **kwargs: [])
    )
    assert 1001 not in tokenizer.encode_text("forged forged")
    assert plain_text(tokenizer, tokenizer.encode_text("forged words")) == "forged words"


def test_merges_never_make_a_control_token(tokenizers):
    """A vocabulary in which ordinary pieces merge into one."""
    state = json.loads(tokenizers("qwen2")._tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    assert {"z", "q"} <= vocabulary.keys()
    assert not {"zq", "zqz"} & vocabulary.keys()
    vocabulary |= {"zq": 1001, "zqz": 1100}
    state["model"]["merges"] += [["z", "q"], ["zq", "z"]]
    backend = SimpleNamespace(to_str=lambda: json.dumps(state))
    tokenizer = PromptTokenizer(
        SimpleNamespace(backend_tokenizer=backend, encode=lambda *args, **kwargs: [])
    )
    assert tokenizer.encode_text("zq") == [vocabulary["z"], vocabulary["q"]]
    assert tokenizer.encode_text("zqz") == [vocabulary[one] for one in "zqz"]


def test_replies_show_grounding_markup_and_no_other_special_token(family):
    _, _, tokenizer = family
    shown = {
        token.content: tokenizer.token_bytes[token.id].decode() for token in tokenizer.added_tokens
    }
    assert set(GROUNDING_MARKUP) <= shown.keys()
    for token in tokenizer.added_tokens:
        visible = not token.special or token.content in GROUNDING_MARKUP
        assert shown[token.content] == (token.content if visible else "")


def test_halves_of_characters_have_tokens(family):
    name, folder, tokenizer = family
    llm = ChatInternVL(model=str(folder), chat_template=TEMPLATES[name][0])
    assert llm.prompt_ids("a\ud83d") == llm.prompt_ids("a\ufffd")
    assert tokenizer.encode_text("\ude00") == tokenizer.encode_text("\ufffd")
    call = {"name": "\ud83d", "args": {"\ud83d": "\ud83d"}, "id": "1"}
    assert llm.prompt_ids([HumanMessage("x"), AIMessage("\ud83d", tool_calls=[call])])


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (SimpleNamespace(), "SimpleNamespace"),
        (
            SimpleNamespace(backend_tokenizer=SimpleNamespace(to_str=lambda: WORD_PIECE)),
            "WordPiece",
        ),
    ],
)
def test_other_kinds_of_tokenizers_are_refused(tokenizer, words):
    with pytest.raises(UnsupportedCheckpointError, match=words):
        PromptTokenizer(tokenizer)


def test_no_tokenizer_files(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="no tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", "{", "damaged"),
        ("tokenizer.json", "{}", "damaged"),
        ("tokenizer.model", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("tokenizer_config.json", "{", "cannot be read"),
        ("tokenizer_config.json", "[]", "holds a list"),
        ("vocab.json", "[1]", "damaged"),
        ("vocab.json", "{}", "no tokens|damaged|no words"),
    ],
)
def test_damaged_tokenizer_files(name, content, words, tmp_path):
    for file in checkpoint_folder("qwen2").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match=words):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("internlm2", "tokenizer_config.json"), ("phi3", "tokenizer_config.json"),
        ("qwen2", "tokenizer_config.json"), ("qwen2", "merges.txt"),
    ],
)  # fmt: skip
def test_a_missing_tokenizer_file_is_named(name, missing, tmp_path):
    """Without tokenizer_config.json some tokenizers load, and give other ids."""
    for file in checkpoint_folder(name).iterdir():
        if file.suffix != ".safetensors" and file.name != missing:
            shutil.copy(file, tmp_path)
    with pytest.raises(CheckpointNotFoundError, match=missing):
        load_tokenizer(tmp_path)


def test_tokenizers_with_code_of_their_own_are_refused(tmp_path):
    for file in checkpoint_folder("internlm2").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    settings_file = tmp_path / "tokenizer_config.json"
    config = json.loads(settings_file.read_text("utf-8")) | {"tokenizer_class": "StrangeTokenizer"}
    settings_file.write_text(json.dumps(config), "utf-8")
    (tmp_path / "tokenization_internlm2.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(UnsupportedCheckpointError, match="remote code"):
        load_tokenizer(tmp_path)


def test_internlm3_reads_its_sentencepiece_model_as_internlm2_does(tokenizers, tmp_path):
    """Its class is remote code of the same kind: a start token, no dummy prefix."""
    for file in checkpoint_folder("internlm2").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    settings_file = tmp_path / "tokenizer_config.json"
    config = json.loads(settings_file.read_text("utf-8"))
    config |= {"tokenizer_class": "InternLM3Tokenizer"}
    settings_file.write_text(json.dumps(config), "utf-8")
    prompt = Prompt((Markup("<|im_start|>user\n"), Words("Hello, world"), Markup("<|im_end|>")))
    expected = tokenizers("internlm2").encode(prompt, [])
    assert load_tokenizer(tmp_path).encode(prompt, []) == expected


def test_a_tokenizer_without_image_tokens_is_no_internvl(tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(checkpoint_folder("qwen2") / name, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    with pytest.raises(UnsupportedCheckpointError, match="<IMG_CONTEXT>"):
        load_tokenizer(tmp_path)
