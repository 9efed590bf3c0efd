"""The smallest model of nano's kind, and what tests of its training share."""

import json
import random

import torch
from nano_training.encoding import Encoder
from nano_training.export import export
from nano_training.mixture import KINDS
from nano_training.model import answer, build_config, build_model, build_tokenizer, see

TOKENIZER = build_tokenizer()
SMALL = build_config(TOKENIZER, width=32, vision_layers=1, text_layers=1)


def few_lines_row():
    return Encoder().row(KINDS["few lines"].draw(random.Random(1)))


def reply(model, batch):
    return answer(model, batch, see(model, batch.tiles, batch.origin))[:2]


def export_random(folder):
    model = build_model(build_config(TOKENIZER))
    run_folder = folder / "run"
    run_folder.mkdir()
    average = dict(model.named_parameters())
    torch.save({"average": average, "step": 1, "seconds": 60.0}, run_folder / "state.pt")
    (run_folder / "plan.json").write_text(
        json.dumps({"plan": {"seed": 3}, "before": ["a prototype"]}), "utf-8"
    )
    export(run_folder, folder)
    return model
