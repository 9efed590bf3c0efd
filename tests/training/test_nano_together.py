"""Processes that train together have one model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nano_training.mixture import Course, Steps

pytestmark = pytest.mark.slow

PROGRAM = """
import os
import sys
from pathlib import Path

import torch
from nano_training import train
from nano_training.train import Plan, Trainer, run
from support_nano import SMALL

train.build_config = lambda _: SMALL
states = []
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
run(Path(sys.argv[1]) / "run", plan, None, save_every=10, is_fast=False)
"""


def test_two_processes_learn_from_different_pictures_and_take_the_mean(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    root = Path(__file__).parents[2]
    roots = (root, root / "training/nano", root / "tests")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(program), str(tmp_path),
    ]  # fmt: skip
    paths = os.pathsep.join([*map(str, roots), *filter(None, sys.path)])
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (seen, own), (other_seen, other) = (torch.load(tmp_path / f"{n}.pt") for n in (0, 1))
    assert len(seen) == len(other_seen) == 10
    assert seen != other_seen
    assert any(not torch.equal(own[name], other[name]) for name in own)  # before the last mean
    first, second = (torch.load(tmp_path / f"mean{number}.pt") for number in (0, 1))
    assert all(map(torch.equal, first, second))
    plan = json.loads((tmp_path / "run/plan.json").read_text("utf-8"))
    assert plan["processes"] == 2
    state = torch.load(tmp_path / "run/state.pt")
    assert state["step"] == 10
    saved = [tensor for name, tensor in state["model"].items() if name != "lm_head.weight"]
    assert all(map(torch.equal, saved, first[: len(saved)]))


def test_members_draw_different_batches_and_each_its_own_again():
    courses = [Course(seed=5, member=member) for member in (0, 1)]
    drawn = [Steps(course, 0, 2, 0)[1][0] for course in courses]
    again = Steps(courses[1], 1, 2, 0)[0][0]
    assert torch.equal(drawn[1].tiles, again.tiles)
    assert drawn[0].kind != again.kind or not torch.equal(drawn[0].ids, again.ids)
