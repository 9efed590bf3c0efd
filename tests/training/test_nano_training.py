"""The embedded model is trained, goes on where it was, and is exported as it is."""

import hashlib
import json

import pytest
import torch
from nano_training import train
from nano_training.batches import collate
from nano_training.export import export, mixed
from nano_training.model import (
    build_config,
    build_model,
    fresh_parameters,
    in_model_of,
    load,
)
from nano_training.optimisers import Muon
from nano_training.plan import Plan
from nano_training.train import Trainer, run
from safetensors.torch import load_file, save_file
from support_nano import SMALL, TOKENIZER, export_random, few_lines_row, reply

from langchain_internvl import ChatInternVL

pytestmark = pytest.mark.slow


def test_training_learns_and_goes_on_where_it_was(tmp_path, monkeypatch):
    """Ten steps at once, and five and five, give the same weights; and the loss falls."""
    monkeypatch.setattr("nano_training.train.build_config", lambda _: SMALL)
    plan = Plan(mixture="first", steps=10, warm_up=2)
    run(tmp_path / "whole", plan, None, save_every=10, is_fast=False)

    class StopError(Exception):
        pass

    learn = Trainer.learn

    def stop_at_five(self, batch):
        if self.step == 5:
            raise StopError
        return learn(self, batch)

    monkeypatch.setattr(Trainer, "learn", stop_at_five)
    with pytest.raises(StopError):
        run(tmp_path / "parts", plan, None, save_every=5, is_fast=False)
    monkeypatch.setattr(Trainer, "learn", learn)
    run(tmp_path / "parts", Plan(steps=99), None, save_every=5, is_fast=False)
    states = [torch.load(tmp_path / name / "state.pt") for name in ("whole", "parts")]
    assert [state["step"] for state in states] == [10, 10]
    for kind in ("model", "average"):
        for name, tensor in states[0][kind].items():
            assert torch.equal(tensor, states[1][kind][name]), name
    lines = (tmp_path / "whole" / "log.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[-1])["step"] == 10


def test_matrices_of_a_shape_are_changed_as_torch_changes_them():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(*shape)) for shape in ((8, 8), (8, 8), (32, 8), (8, 32))]
    theirs = [torch.nn.Parameter(one.detach().clone()) for one in ours]
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.03}
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
    before = [one.detach().clone() for one in ours]
    for optimiser in (Muon(ours, **settings), torch.optim.Muon(theirs, **settings)):
        optimiser.step()
    for one, other, was in zip(ours, theirs, before, strict=True):
        right = (other - was).norm()
        assert right > 0.01
        assert (one - other).norm() < 0.08 * right  # products are of 16 bits


def test_a_tower_that_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("nano_training.train.build_config", lambda _: SMALL)
    run(tmp_path, Plan(mixture="first", steps=2, sight=0, warm_up=1), None, is_fast=False)
    learnt = torch.load(tmp_path / "state.pt")["model"]
    for name, tensor in build_model(SMALL, 1).state_dict().items():
        is_eye = "vision_tower" in name or "projector" in name
        assert torch.equal(tensor, learnt[name]) == is_eye, name


def test_a_model_that_grew_says_what_it_said_before():
    """The weights' last layer is the last, and what is new before it adds nothing."""
    before = build_model(build_config(TOKENIZER, width=32, vision_layers=1, text_layers=2), 1)
    weights = {name: tensor for name, tensor in before.state_dict().items() if name[:3] != "lm_"}
    after = build_model(build_config(TOKENIZER, width=32, vision_layers=1, text_layers=4), 2)
    load(after, weights)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        said, says = before.eval()(input_ids=ids).logits, after.eval()(input_ids=ids).logits
    assert torch.equal(said, says)
    names = {name.partition("layers.")[2] for name, _ in fresh_parameters(after, 2)}
    assert {name[:2] for name in names} == {"1.", "2."}
    for name, parameter in fresh_parameters(after, 2):
        adds = name.endswith(("o_proj.weight", "down_proj.weight"))
        assert bool(parameter.any()) != adds, name


def test_new_layers_learn_at_the_whole_rate_and_all_else_at_a_share(tmp_path, monkeypatch):
    """Muon's steps are as long as the rate says, so lengths show the rates."""
    sizes = {"width": 32, "vision_layers": 1}
    old = build_model(build_config(TOKENIZER, **sizes, text_layers=2), 1)
    start = tmp_path / "start"
    start.mkdir()
    kept = {name: one for name, one in old.state_dict().items() if not name.startswith("lm_head")}
    save_file(kept, start / "model.safetensors")
    large = build_config(TOKENIZER, **sizes, text_layers=3)
    monkeypatch.setattr("nano_training.train.build_config", lambda _: large)
    plan = Plan(mixture="first", steps=1, warm_up=1, sight=0, fresh=1, old_rate=0.25)
    run(tmp_path / "run", plan, start, is_fast=False)
    learnt = torch.load(tmp_path / "run/state.pt")["model"]
    begun = build_model(large, plan.seed)
    load(begun, kept)

    def length(layer):
        name = f"model.language_model.layers.{layer}.self_attn.o_proj.weight"
        weight = begun.state_dict()[name]
        kept = 1 - plan.muon_rate * 0.03 * (1.0 if layer == 1 else 0.25)
        return float((learnt[name] - kept * weight).norm())

    assert length(0) == pytest.approx(0.25 * length(1), rel=0.2)
    assert length(2) == pytest.approx(0.25 * length(1), rel=0.2)


def test_a_mixture_with_weights_of_fewer_layers_has_the_new_ones_whole():
    small = {f"model.language_model.layers.{number}.a": torch.zeros(2) for number in (0, 1)}
    large = {f"model.language_model.layers.{number}.a": torch.ones(2) for number in (0, 1, 2)}
    found = [tensor.tolist() for tensor in mixed(large, small, 0.25).values()]
    assert found == [[0.25, 0.25], [1, 1], [0.25, 0.25]]


def test_a_model_does_not_shrink():
    weights = {f"model.language_model.layers.{number}.a": torch.zeros(2) for number in (0, 1, 2)}
    with pytest.raises(ValueError, match="weights of 3 layers of language in a model of 2"):
        in_model_of(2, weights)
    with pytest.raises(ValueError, match="say how many"):
        Plan(old_rate=0.5)


def test_the_rate_rises_stays_and_falls():
    plan = Plan(steps=1000, warm_up=100, steady=0.5)
    rates = [plan.rate(step) for step in (0, 99, 400, 750, 999)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[1] == rates[2] == 1
    assert 0.4 < rates[3] < 0.6
    assert rates[4] < 0.03
    late = Plan(steps=10**6, warm_up=1, minutes=10)
    assert [late.done(100, seconds) for seconds in (0, 300, 999)] == [0.0001, 0.5, 1]
    assert late.rate(100, 599) < 0.03


def test_what_is_exported_is_the_same_model(tmp_path):
    model = export_random(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 7_950_000
    llm = ChatInternVL(model=str(tmp_path), temperature=0, max_tokens=4)
    batch = collate("few lines", [few_lines_row()], 0)
    llm.invoke("x")
    loaded = llm._backend(llm._renderer(llm))._worker._loop._model
    assert loaded.dtype == torch.float32
    with torch.no_grad():
        ours, theirs = reply(model, batch)[0], reply(loaded, batch)[0]
    assert torch.allclose(ours, theirs, atol=0.05)
    assert json.loads((tmp_path / "training.json").read_text("utf-8")) == {
        "runs": ["a prototype", {"plan": {"seed": 3}, "steps_done": 1, "minutes": 1}]
    }
    llm.close()


def test_what_is_exported_may_be_mixed_with_an_earlier_one(tmp_path):
    export_random(tmp_path)
    start = tmp_path / "start"
    start.mkdir()
    old = {
        name: torch.zeros_like(tensor)
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(old, start / "model.safetensors")
    export(tmp_path / "run", tmp_path / "mixed", start, 0.25)
    mixed, own = (load_file(one / "model.safetensors") for one in (tmp_path / "mixed", tmp_path))
    for name, tensor in own.items():
        assert torch.allclose(mixed[name].float(), 0.25 * tensor.float(), atol=1e-3, rtol=1e-2)
    told = json.loads((tmp_path / "mixed/training.json").read_text("utf-8"))["runs"][-1]
    assert told["share_in_mixture_with_an_earlier_one"] == 0.25
    digest = hashlib.sha256((start / "model.safetensors").read_bytes()).hexdigest()
    assert told["sha256_of_the_earlier_one"] == digest


@pytest.mark.parametrize("said", ["abc1234-dirty", "unknown"])
def test_a_run_of_no_commit_does_not_start(said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "_commit", lambda: said)
    monkeypatch.setattr("sys.argv", ["train", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        train.main()
    assert "commit what was changed first" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
