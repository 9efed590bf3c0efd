"""Processes that train together have one model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nano_training.mixture import Course, Steps
from nano_training.together import EVERY

pytestmark = pytest.mark.slow

PROGRAM = """
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from nano_training import train
from nano_training.plan import Plan
from nano_training.train import Trainer, run
from support_nano import SMALL

train.build_config = lambda _: SMALL
learn = Trainer.learn
def told(self, batches):
    self.seen = [*getattr(self, "seen", []), int(batches[0].ids.sum())]
    found = learn(self, batches)
    if self.step == 10:
        own = (self.seen, self.model.state_dict())
        torch.save(own, Path(sys.argv[1]) / f"{os.environ['RANK']}.pt")
    return found
Trainer.learn = told
mean = train.Group.mean
def noted(self, tensors):
    mean(self, tensors)
    means = [tensor.detach().clone() for tensor in tensors]
    torch.save(means, Path(sys.argv[1]) / f"mean{self.number}.pt")
train.Group.mean = noted
plan = Plan(mixture="first", steps=10, warm_up=2)
if sys.argv[2] == "late":
    plan = Plan(mixture="first", steps=10**6, minutes=1 / 60, warm_up=2)
    if os.environ["RANK"] == "1":  # its clock stands still, so it ends because the first one does
        train.time = SimpleNamespace(monotonic=lambda: 0.0)
run(Path(sys.argv[1]) / "run", plan, None, save_every=10, is_fast=False)
"""


def train_together(folder, mode):
    """Run the program in two processes, and give its plan and its state."""
    program = folder / "program.py"
    program.write_text(PROGRAM, "utf-8")
    root = Path(__file__).parents[2]
    roots = (root, root / "training/nano", root / "tests")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(program), str(folder), mode,
    ]  # fmt: skip
    paths = os.pathsep.join([*map(str, roots), *filter(None, sys.path)])
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment = {**os.environ, "PYTHONPATH": paths, **threads}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    plan = json.loads((folder / "run/plan.json").read_text("utf-8"))
    return plan, torch.load(folder / "run/state.pt")


def test_two_processes_learn_from_different_pictures_and_take_the_mean(tmp_path):
    plan, state = train_together(tmp_path, "steps")
    (seen, own), (other_seen, other) = (torch.load(tmp_path / f"{n}.pt") for n in (0, 1))
    assert len(seen) == len(other_seen) == 10
    assert seen != other_seen
    assert any(not torch.equal(own[name], other[name]) for name in own)  # before the last mean
    first, second = (torch.load(tmp_path / f"mean{number}.pt") for number in (0, 1))
    assert all(map(torch.equal, first, second))
    assert plan["processes"] == 2
    assert state["step"] == 10
    saved = state["model"]
    for name, tensor in own.items():
        assert torch.allclose(saved[name], (tensor + other[name]) / 2, atol=1e-6), name
    kept = [one for one in state["landmarks"].values() if one.shape == first[0].shape]
    assert any(torch.equal(one, first[0]) for one in kept)


def test_processes_end_together_when_the_first_one_s_time_is_over(tmp_path):
    _, state = train_together(tmp_path, "late")
    assert state["step"] > 0
    assert state["step"] % EVERY == 0
    first, second = (torch.load(tmp_path / f"mean{number}.pt") for number in (0, 1))
    assert all(map(torch.equal, first, second))


def test_members_draw_different_batches_and_each_its_own_again():
    courses = [Course(seed=5, member=member) for member in (0, 1)]
    drawn = [Steps(course, 0, 2, 0)[1][0] for course in courses]
    again = Steps(courses[1], 1, 2, 0)[0][0]
    assert torch.equal(drawn[1].tiles, again.tiles)
    assert drawn[0].kind != again.kind or not torch.equal(drawn[0].ids, again.ids)
