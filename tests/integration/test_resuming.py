"""An agent whose process is killed between two tools, and that goes on in another."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from drawings import draw_sign
from golden import PHOTOS, checkpoint_folder
from patience import PATIENCE

PROGRAM = Path(__file__).with_name("resuming_agent.py")


def run(model, database, *picture):
    command = [sys.executable, str(PROGRAM), str(model), str(database), *map(str, picture)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_an_agent_goes_on_after_its_process_was_killed(tmp_path):
    database = tmp_path / "agent.sqlite"
    with run(checkpoint_folder("qwen2"), database, PHOTOS / "coffee.png") as first:
        assert first.stdout.readline() == "between tools\n"
        first.kill()
    assert first.returncode != 0
    with run(checkpoint_folder("qwen2"), database) as second:
        said = second.communicate(timeout=PATIENCE)[0]
    assert (second.returncode, said) == (0, "It says OPEN\n")


@pytest.mark.slow
def test_an_agent_with_nano_reads_the_sign_after_its_process_was_killed(tmp_path):
    picture, word, _ = draw_sign(random.Random(2))
    picture.save(tmp_path / "street.png")
    with run("nano", tmp_path / "agent.sqlite", tmp_path / "street.png") as first:
        assert first.stdout.readline() == "between tools\n"
        first.kill()
    (tmp_path / "street.png").unlink()  # the conversation holds it
    with run("nano", tmp_path / "agent.sqlite") as second:
        said = second.communicate(timeout=PATIENCE)[0]
    assert second.returncode == 0
    assert word in said
