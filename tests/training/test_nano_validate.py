"""What is validated in one pass is what greedy decoding says."""

import hashlib
import json

import pytest
from nano_training.encoding import Encoder
from nano_training.evaluate import answer
from nano_training.model import build_config, build_model, build_tokenizer, speed_up
from nano_training.trials import draw_trials
from nano_training.validate import SEED, load, look, main, mixture, validate
from safetensors.torch import load_file, save_file

from langchain_internvl import ChatInternVL, nano

pytestmark = pytest.mark.slow

WEIGHTS = nano.FOLDER / "model.safetensors"


def test_one_pass_finds_the_answers_that_are_right():
    llm = ChatInternVL(model="nano", temperature=0, max_tokens=200)
    model = build_model(build_config(build_tokenizer())).eval()
    load(model, mixture(str(WEIGHTS)))
    for name, count in (("ask", 12), ("describe", 8), ("video", 2)):
        trials = draw_trials(name, count, 3001)
        seen = [look(model, trial, Encoder()) for trial in trials]
        speed_up(model, sight=False)
        score, loss = validate(model, name, seen)
        model.set_attn_implementation("sdpa")
        said = answer(llm, trials)
        right = sum(one == trial.truth for one, trial in zip(said, trials, strict=True))
        assert score.value * count == pytest.approx(right), name
        assert 0 < loss < 1
    llm.close()


def test_weights_are_mixed(tmp_path):
    first = load_file(WEIGHTS)
    save_file({name: one * 3 for name, one in first.items()}, tmp_path / "three")
    mixed = mixture(f"{tmp_path / 'three'}@0.25@{WEIGHTS}")
    name = "model.language_model.embed_tokens.weight"
    assert (mixed[name] - first[name].float() * 1.5).abs().max() < 1e-2


def test_figures_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nano_training.validate.COUNTS", {"ask": 3})
    out = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["validate", str(WEIGHTS), "--out", str(out)])
    main()
    found = json.loads(out.read_text("utf-8"))
    assert found["seed"] == SEED
    figures = found["weights"][str(WEIGHTS)]
    assert figures["ask"]["samples"] == 3
    assert figures["sha256"] == [hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()]
    assert "ask" in capsys.readouterr().out


def test_weights_are_validated_by_their_own_eyes(tmp_path, monkeypatch):
    """Whatever was validated before them."""
    monkeypatch.setattr("nano_training.validate.COUNTS", {"ask": 2})
    blind = {
        name: one * 0 if "patch_embeddings" in name else one
        for name, one in load_file(WEIGHTS).items()
    }
    save_file(blind, tmp_path / "blind")
    ways = [str(tmp_path / "blind"), str(WEIGHTS)]
    losses = []
    for order in (ways, ways[::-1], ways[1:]):
        out = tmp_path / "figures.json"
        monkeypatch.setattr("sys.argv", ["validate", *order, "--out", str(out)])
        main()
        found = json.loads(out.read_text("utf-8"))["weights"]
        losses.append([found[way]["ask"]["loss"] for way in ways[-len(order) :]])
    assert losses[0] == losses[1]
    assert losses[0][1:] == losses[2]
    assert losses[0][0] > losses[0][1]
