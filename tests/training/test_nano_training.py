"""The embedded model is trained, goes on where it was, and is exported as it is."""

import hashlib
import json

import pytest
import torch
from nano_training import train
from nano_training.batches import collate
from nano_training.export import export
from nano_training.model import build_model
from nano_training.optimisers import Muon
from nano_training.train import Plan, Trainer, run
from safetensors.torch import load_file, save_file
from support_nano import SMALL, export_random, few_lines_row, reply

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
    assert (tmp_path / "model.safetensors").stat().st_size < 7_500_000
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
