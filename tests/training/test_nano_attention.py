"""Attention without what a mask hides is attention with the mask, and so are its gradients."""

import json
import random
from dataclasses import replace

import pytest
import torch
from nano_training import attention
from nano_training.batches import collate
from nano_training.encoding import Encoder
from nano_training.feeding import through
from nano_training.mixture import KINDS, Course, Steps
from nano_training.model import answer, build_model, see, speed_up, width_of
from nano_training.plan import Plan
from nano_training.sizes import TOKENS
from nano_training.train import Trainer, run
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


def test_short_rows_have_the_same_answers_and_gradients():
    """By plain matrices where there are gradients, by PyTorch's attention where there are none."""
    batch = batch_of("simple scene", "few lines")
    torch.manual_seed(2)
    features = torch.randn(len(batch.tiles), TOKENS, 32)
    model = build_model(SMALL, 5)
    right, _ = answer_of_all_layers(model, batch, features)
    right.square().mean().backward()
    of_mask = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    model = build_model(SMALL, 5)
    assert speed_up(model, whole=False)
    found, _, _ = answer(model, batch, features, by_segments=True)
    found.square().mean().backward()
    with torch.no_grad():
        silent, _, _ = answer(model, batch, features, by_segments=True)
    for one in (found, silent):
        torch.testing.assert_close(one, right, rtol=1e-4, atol=1e-5)
    assert of_mask
    for name, gradient in of_mask.items():
        own = model.get_parameter(name).grad
        torch.testing.assert_close(own, gradient, rtol=1e-3, atol=1e-6, msg=name)


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


def test_a_tower_that_learns_from_windows_looks_at_whole_tiles_as_it_is():
    whole = batch_of("few lines")
    steps = Steps(Course(mixture="first"), 0, 20, TOKENIZER.pad_token_id)
    window = next(batch for step in steps for batch in step if batch.kind == "first window")
    assert (whole.is_whole, window.is_whole) == (True, False)
    plan = Plan(sight_of="windows", warm_up=1)
    trainer = Trainer(build_model(SMALL, 5), plan)
    tower = trainer.model.model.vision_tower
    before = {name: one.detach().clone() for name, one in tower.named_parameters()}
    embeddings = trainer.model.get_input_embeddings().weight.detach().clone()
    trainer.learn([whole])
    assert all(torch.equal(one, before[name]) for name, one in tower.named_parameters())
    assert not torch.equal(trainer.model.get_input_embeddings().weight, embeddings)
    trainer.learn([window])
    assert not all(torch.equal(one, before[name]) for name, one in tower.named_parameters())
    sent = through(trainer.model, windows=False)([whole, window])
    assert [batch.features is None for batch in sent] == [False, True]
    with pytest.raises(ValueError, match="neither 'all' nor 'windows'"):
        Plan(sight_of="tiles")


def test_equal_tiles_are_seen_once(monkeypatch):
    sizes = []

    def seen(model, tiles, origin):
        sizes.append(len(tiles))
        return see(model, tiles, origin)

    monkeypatch.setattr("nano_training.feeding.see", seen)
    model = build_model(SMALL, 5)
    few = batch_of("few lines", "few lines")
    paper = torch.full_like(few.tiles[:1], 255)
    batch = replace(few, tiles=torch.cat([paper, few.tiles[:2], paper, few.tiles[:1]]))
    [sent] = through(model)([batch])
    assert sizes == [3]
    features = sent.features
    assert torch.equal(features[0], features[3])
    assert torch.equal(features[1], features[4])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        right = see(model, batch.tiles, batch.origin).bfloat16()
    assert torch.allclose(features, right, atol=0.05, rtol=0.05)
