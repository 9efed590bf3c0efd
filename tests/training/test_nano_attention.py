"""Attention without what a mask hides is attention with the mask, and so are its gradients."""

import json
import random
from dataclasses import replace

import pytest
import torch
from nano_training import attention
from nano_training.batches import collate
from nano_training.encoding import Encoder
from nano_training.mixture import KINDS
from nano_training.model import TOKENS, answer, build_model, speed_up, width_of
from nano_training.plan import Plan
from nano_training.train import run
from support_nano import SMALL, TOKENIZER
from torch.nn.functional import cross_entropy

pytestmark = pytest.mark.slow


def batch_of(*kinds):
    encoder = Encoder()
    rows = [encoder.row(KINDS[kind].draw(random.Random(one))) for one, kind in enumerate(kinds)]
    return collate(kinds[0], rows, TOKENIZER.pad_token_id)


def answer_of_all_layers(model, batch, features):
    """By the layers of transformers, for every token, with the mask."""
    embedded = model.get_input_embeddings()(batch.ids)
    is_context = (batch.ids == model.config.image_token_id).unsqueeze(-1).expand_as(embedded)
    hidden = embedded.masked_scatter(is_context, features)
    language_model = model.model.language_model
    turns = language_model.rotary_emb(hidden, batch.positions)
    for layer in language_model.layers:
        hidden = layer(hidden, attention_mask=batch.mask, position_embeddings=turns)
    learnt = batch.labels[:, 1:] >= 0
    logits = model.lm_head(language_model.norm(hidden)[:, :-1][learnt])
    return logits, batch.labels[:, 1:][learnt]


@pytest.mark.parametrize(
    "kinds",
    [("simple scene", "few lines", "scene"), ("video",), ("wide",), ("pair", "blank"), ("list",)],
)
def test_attention_by_segments_is_attention_with_the_mask(kinds, monkeypatch):
    """Rows of several questions, of one, of a chat, shorter than others."""
    monkeypatch.setattr(attention, "_LONG", 0)
    batch = batch_of(*kinds)
    torch.manual_seed(2)
    features = torch.randn(len(batch.tiles), TOKENS, 32)
    found = []
    for fast in (False, True):
        model = build_model(SMALL, 5)
        assert not fast or speed_up(model, sight=False)
        if fast:
            logits, right, _ = answer(model, batch, features, by_segments=True)
        else:
            logits, right = answer_of_all_layers(model, batch, features)
        cross_entropy(logits, right).backward()
        learnt = model.model.language_model.named_parameters()
        found.append((logits, {name: one.grad for name, one in learnt if one.grad is not None}))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_spans_are_the_shared_tokens_and_each_question():
    segments = torch.tensor(
        [[0, 0, 1, 1, 2, -1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, -1, -1], [0, 1, 2, 3, 3, 3]]
    )
    assert attention.spans_of(segments) == [[2, 2, 1], [6], [4], [1, 1, 1, 3]]


def test_short_rows_keep_the_mask():
    assert not attention.pays(torch.zeros(3, 400))
    assert attention.pays(torch.zeros(3, 600))


def test_what_a_tower_sees_is_shown_again_and_a_run_names_where_it_went_on(tmp_path, monkeypatch):
    monkeypatch.setattr("nano_training.train.build_config", lambda _: SMALL)
    monkeypatch.setattr("nano_training.train._commit", lambda: "abc1234")
    looked = []
    monkeypatch.setattr(
        "nano_training.feeding.see",
        lambda model, tiles, _: (
            looked.append(1)
            or torch.zeros(len(tiles), tiles.shape[1] * tiles.shape[2] // 1024, width_of(model))
        ),
    )
    plan = Plan(mixture="first", steps=12, sight=0, warm_up=1, shows=3)
    run(tmp_path, plan, None, is_fast=False)
    run(tmp_path, replace(plan, minutes=5.0), None, is_fast=False)
    assert len(looked) >= 4
    assert torch.load(tmp_path / "state.pt")["step"] == 12
    about = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    assert about["commit"] == "abc1234"
    assert about["went_on"] == [{"commit": "abc1234", "minutes": 5.0, "processes": 1}]
    assert about["plan"]["minutes"] == 5.0
