"""Qianfan-OCR: InternVL's architecture with Qwen3, under names and a class of its own."""

import json

import numpy as np
import pytest
import torch
from checkpoints import JINJA, original_config, random_model, to_original, write_hf, write_original
from golden import PHOTOS, checkpoint_folder
from support import FixedBackend, decode, load_loop
from transformers import QianfanOCRConfig, QianfanOCRForConditionalGeneration

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.vision import encode_image
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.grounding import parse_boxes
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.template_choice import choose_template

# As the hub has it: the turns of ChatML, `<image>` for an image, branches for thoughts.
BRANCHING = JINJA.replace("<IMG_CONTEXT>", "<image>").replace(
    "assistant\n' }}{% endif %}",
    "assistant\n' }}{% if enable_thinking is defined %}{{ '<think>' }}{% endif %}{% endif %}",
)


@pytest.fixture(scope="module")
def internvl():
    """The same weights as a plain InternVL."""
    return random_model(original_config("qwen3"), dtype=torch.float32)


@pytest.fixture(scope="module")
def folder(internvl, tmp_path_factory):
    """Original tensor names, and the config of the type `qianfan_ocr`."""
    native = internvl.config.to_dict()
    vision = native["vision_config"] | {"model_type": "qianfan_ocr_vision"}
    names = ("image_token_id", "image_seq_length", "downsample_ratio", "vision_feature_layer")
    config = {
        "model_type": "qianfan_ocr",
        "architectures": ["QianfanOCRForConditionalGeneration"],
        "text_config": native["text_config"],
        "vision_config": vision,
        **{name: native[name] for name in names},
    }
    made = tmp_path_factory.mktemp("qianfan")
    write_original(made, config, to_original(internvl.state_dict()), shards=2)
    return use_template(made, BRANCHING)


def use_template(folder, template):
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    settings.pop("chat_template", None)
    file.write_text(json.dumps(settings), "utf-8")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    return folder


def test_it_computes_what_an_internvl_of_the_same_weights_does(folder, internvl):
    checkpoint = read_checkpoint(folder)
    assert checkpoint.is_qianfan_ocr
    assert checkpoint.tokens_per_tile == 256
    model = load_model(checkpoint, 1005, LoadOptions(dtype="float32"))
    assert type(model) is QianfanOCRForConditionalGeneration
    tiles = np.random.default_rng(0).integers(0, 256, (2, 448, 448, 3), np.uint8)
    with torch.inference_mode():
        features, expected = (encode_image(one, tiles) for one in (model, internvl))
        assert torch.allclose(features, expected, atol=1e-4)
        ids = torch.tensor([[5, 6, 7, 8]])
        logits = (one(input_ids=ids).logits for one in (model, internvl))
        assert torch.allclose(*logits, atol=1e-4)


def test_the_hf_layout_replies_as_the_original_one(folder, tmp_path):
    source = load_model(read_checkpoint(folder), 1005, LoadOptions(dtype="float32"))
    again = QianfanOCRForConditionalGeneration(QianfanOCRConfig(**source.config.to_dict()))
    again.load_state_dict(source.state_dict())
    write_hf(tmp_path, again.float(), template=BRANCHING)
    replies = []
    for place in (folder, tmp_path):
        llm = ChatInternVL(model=str(place), temperature=0, max_tokens=8, max_tiles=2)
        backend = FixedBackend()
        llm.model_copy(update={"backend": backend}).invoke(
            [("human", [image_block(PHOTOS / "chelsea.png"), "Parse this document to Markdown."])]
        )
        ((reply, _),) = decode(load_loop(place, dtype="float32").loop, backend.requests[0])
        replies.append(reply)
    assert replies[0] == replies[1]
    assert replies[0]


@pytest.mark.parametrize("template", [BRANCHING, JINJA, "{{ 'something else' }}"])
def test_its_turns_are_chatml(template, folder):
    use_template(folder, template)
    checkpoint = read_checkpoint(folder)
    assert choose_template(checkpoint, load_tokenizer(folder)).name == "internvl-hf"
    use_template(folder, BRANCHING)


def test_document_and_layout_mode(folder):
    """`<think>` at the end of the question asks for a plan of the layout first."""
    llm = ChatInternVL(model=str(folder))
    question = [
        ("human", [image_block(PHOTOS / "chelsea.png"), "Parse this document to Markdown."])
    ]
    plain = llm.render(question)
    assert plain == (
        "<|im_start|>user\n<image>\nParse this document to Markdown.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert llm.render(question, reasoning=False) == plain
    assert llm.render(question, reasoning=True) == plain.replace(
        "Markdown.<|im_end|>", "Markdown.<think><|im_end|>"
    )
    later = llm.render([("human", "a"), ("ai", "b"), ("human", "c")], reasoning=True)
    assert later.count("<think>") == 1
    assert "c<think><|im_end|>" in later


LAYOUT = (
    "title <box><COORD_100><COORD_50><COORD_900><COORD_120></box>\n"
    "table <COORD_100> <COORD_200> <COORD_900> <COORD_640>\n"
    "paragraph: <box><COORD_100><COORD_700><COORD_900><COORD_999></box>"
)


def test_coordinates_become_boxes_with_their_types():
    boxes = parse_boxes(LAYOUT)
    assert [box.label for box in boxes] == ["title", "table", "paragraph"]
    assert [(box.x1, box.y1, box.x2, box.y2) for box in boxes] == [
        (100, 50, 900, 120), (100, 200, 900, 640), (100, 700, 900, 999),
    ]  # fmt: skip
    assert parse_boxes("<COORD_1><COORD_2><COORD_3>") == []


def test_replies_show_coordinates(tmp_path):
    """They are special tokens, and what the reply says."""
    for file in checkpoint_folder("qwen2").iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    for number, name in enumerate(("<COORD_7>", "<COORD_x>")):
        settings["added_tokens_decoder"][str(1012 + number)] = {
            "content": name, "special": True, "lstrip": False, "rstrip": False,
            "normalized": False, "single_word": False,
        }  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    tokenizer = load_tokenizer(tmp_path)
    shown = {one.content: tokenizer.token_bytes[one.id] for one in tokenizer.added_tokens}
    assert shown["<COORD_7>"] == b"<COORD_7>"
    assert shown["<COORD_x>"] == b""
