"""What the embedded model is trained and measured with."""

import json
import random
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nano_training import held_out, scores, words
from nano_training.batches import IGNORED, collate
from nano_training.encoding import Encoder
from nano_training.export import export
from nano_training.feeding import feed
from nano_training.fonts import load_font, new_fonts, training_fonts
from nano_training.held_out import COLOURS, SHAPES
from nano_training.held_out import held_out as the_list
from nano_training.mixture import KINDS, MIXTURES, Course, Steps
from nano_training.model import TOKENS, answer, build_config, build_model, build_tokenizer, see
from nano_training.optimisers import Muon
from nano_training.pages import Print, draw_page
from nano_training.pointing import pointing
from nano_training.scenes import draw_scene, ground_answer, questions, scene_sample
from nano_training.things import FACTS, LETTERS, UNKNOWN, Letter, Thing, landmarks, letters_known
from nano_training.train import Plan, Trainer, run
from nano_training.trials import TRIALS, draw_trials
from nano_training.videos import any_acted
from safetensors.torch import load_file, save_file

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.tiling import normalise

pytestmark = pytest.mark.slow

TOKENIZER = build_tokenizer()
SMALL = build_config(TOKENIZER, width=32, vision_layers=1, text_layers=1)


def few_lines_row():
    return Encoder().row(KINDS["few lines"].draw(random.Random(1)))


def reply(model, batch):
    return answer(model, batch, see(model, batch.tiles, batch.origin))[:2]


# What is held out.


def test_the_list_is_the_one_that_training_was_begun_with(monkeypatch, tmp_path):
    listed = the_list()
    assert len(listed.words) == 600
    assert {len(listed.placed), len(listed.acted)} == {48, 37}
    changed = tmp_path / "held_out.json"
    changed.write_bytes(held_out.PATH.read_bytes() + b"\n")
    monkeypatch.setattr(held_out, "PATH", changed)
    the_list.cache_clear()
    with pytest.raises(RuntimeError, match="changed after training began"):
        the_list()
    monkeypatch.undo()
    the_list.cache_clear()


def test_training_draws_nothing_of_it():
    rng = random.Random(0)
    written = {word.lower() for _ in range(2000) for word in words.training_line(rng).split()}
    assert len(written & set(words.training_words())) > 1000
    assert not {word for word in written if len(word) > 5} & the_list().words
    assert not set(training_fonts()) & set(new_fonts())
    for _ in range(300):
        _, things = draw_scene(rng, 448, 448)
        for one in things:
            assert (one.colour, one.shape, one.cell(448, 448)) not in the_list().placed
        assert any_acted(rng) not in the_list().acted
    assert any_acted(rng, new=True) in the_list().acted


def test_trials_are_of_what_is_held_out_and_always_the_same():
    for name in TRIALS:
        one, other = draw_trials(name, 3), draw_trials(name, 2)
        for first, second in zip(one, other, strict=False):
            assert (first.question, first.truth) == (second.question, second.truth)
            assert all(map(np.array_equal, first.pictures, second.pictures))
    lines = " ".join(trial.truth for trial in draw_trials("page", 20)).lower().split()
    known = [word for word in lines if word.isalpha() and len(word) > 3]
    assert all(any(new.startswith(word) for new in the_list().words) for word in known)


# What is drawn.


@pytest.mark.parametrize("name", sorted({*training_fonts(), *new_fonts()}))
def test_fonts_are_there_and_differ(name):
    assert 100 < load_font(name, 40).getlength("Hamburgefonts") < 500


def test_pages_hold_what_they_say():
    """A line that is said is drawn, within the picture, where ink differs from paper."""
    rng = random.Random(1)
    for width, height in ((448, 448), (56, 56), (112, 56), (896, 448), (90, 30)):
        for style in (Print((1, 4), (20, 48)), Print((1, 2), (20, 30), one_font=True)):
            picture, text, letters = draw_page(rng, width, height, style)
            assert picture.size == (width, height)
            assert text
            assert all(line == line.strip() and line for line in text.split("\n"))
            assert np.asarray(picture).std() > 1
            assert [one.letter for one in letters] == list("".join(text.split()))
            assert all(0 < one.x < width and 0 < one.y < height for one in letters)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_shapes_fill_their_boxes(colour, shape):
    """All four sides are touched, so the box of an answer is true to the pixel."""
    rng = random.Random(f"{shape} {colour}")
    while True:
        picture, things = draw_scene(rng, 300, 200, lambda _: True, count=1)
        if (things[0].colour, things[0].shape) == (colour, shape):
            break
    pixels = np.asarray(picture).astype(int)
    rows, columns = np.nonzero(np.abs(pixels - COLOURS[colour]).sum(-1) == 0)
    left, top, right, bottom = things[0].box
    assert (columns.min(), columns.max() + 1) == (left, right)
    assert (rows.min(), rows.max() + 1) == (top, bottom)


def test_cells_and_answers():
    thing = Thing((0, 0, 100, 50), "red circle", "red", "circle")
    assert thing.cell(300, 300) == 0
    assert Thing((250, 250, 300, 300), "", "", "").cell(300, 300) == 8
    assert ground_answer("red circle", [thing], 200, 100) == (
        "<ref>red circle</ref><box>[[0, 0, 500, 500]]</box>"
    )


def test_questions_are_different_and_true():
    rng = random.Random(3)
    for _ in range(200):
        _, things = draw_scene(rng, 448, 448)
        asked = questions(rng, things, 448, 448, 4)
        texts = [question.text for question in asked if question.job != "describe"]
        assert len(set(texts)) == len(texts)
        for question in asked:
            if question.text.startswith("Is there"):
                name = question.text.removeprefix("Is there a").lstrip("n ").rstrip("?")
                there = any(thing.name == name for thing in things)
                assert question.answer == ("Yes." if there else "No.")


# What the model reads.


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_what_chat_internvl_would_ask(kind, tmp_path):
    """Ids, tiles and the ids of answers, for every question of a sample."""
    export_random(tmp_path)
    llm = ChatInternVL(model=str(tmp_path))
    rng = random.Random(kind)
    sample = next(one for one in iter(lambda: KINDS[kind].draw(rng), None) if not one.is_chat)
    row = Encoder().row(sample)
    pictures = list(sample.pictures)
    media = [video_block(pictures)] if sample.is_video else [image_block(one) for one in pictures]
    for number, question in enumerate(sample.questions, 1):
        messages = [("user", [*media, {"type": "text", "text": question.text}])]
        if sample.system is not None:
            messages.insert(0, ("system", sample.system))
        # Alone a question is part of what all see.
        mine = [place for place, one in enumerate(row.segments) if one in (0, number)]
        prompt = [row.ids[place] for place in mine if row.labels[place] == IGNORED]
        assert prompt == llm.prompt_ids(messages)
        reply = [row.ids[place] for place in mine if row.labels[place] != IGNORED]
        assert llm.get_text(reply) == question.answer
        assert reply[-1] == TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    request = llm._prepare([*llm._convert_input(messages).to_messages()], llm, Deadline())[1]
    assert np.array_equal(np.concatenate(request.tiles), row.tiles)


def test_questions_that_share_a_picture_do_not_see_each_other():
    """Logits of a row of three are those of three rows of one."""
    model = build_model(SMALL).eval()
    rng = random.Random(5)
    sample = scene_sample(rng, 448, 448, count=3)
    while sample.is_chat or len(sample.questions) < 3:
        sample = scene_sample(rng, 448, 448, count=3)
    encoder = Encoder()
    singles = [
        encoder.row(type(sample)(sample.pictures, [one], system=sample.system))
        for one in sample.questions
    ]
    with torch.no_grad():
        together, labels = reply(model, collate("", [encoder.row(sample)], 0))
        apart = [reply(model, collate("", [row], 0)) for row in singles]
    assert torch.equal(labels, torch.cat([right for _, right in apart]))
    assert torch.allclose(together, torch.cat([logits for logits, _ in apart]), atol=1e-4)


def test_chats_learn_every_answer():
    rng = random.Random(2)
    sample = next(
        one for one in iter(lambda: scene_sample(rng, 448, 448), None)
        if one.is_chat and len(one.questions) > 1
    )  # fmt: skip
    row = Encoder().row(sample)
    learnt = [id_ for id_ in row.labels if id_ != IGNORED]
    end = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    assert learnt.count(end) == len(sample.questions)
    assert not any(row.segments)


def test_windows_are_seen_as_the_model_sees_tiles():
    model = build_model(SMALL).eval()
    tiles = torch.randint(0, 256, (2, 448, 448, 3), dtype=torch.uint8)
    with torch.no_grad():
        own = model.model.get_image_features(torch.from_numpy(normalise(tiles.numpy())))
        assert torch.equal(see(model, tiles, (0, 0)), own.pooler_output)
        assert see(model, tiles[:, :128, :224], (2, 4)).shape == (2, 28, 32)


def test_tokens_are_told_what_is_in_their_squares():
    """A red circle over four tokens, its middle in one, and a sign that none of it touches."""
    circle = Thing((10, 16, 58, 62), "red circle", "red", "circle")
    known = landmarks([circle], (128, 64), (0, 0, 128, 64), (2, 4)).reshape(2, 4, FACTS)
    assert known[..., 0].tolist() == [[0, 0, 8, 8], [0, 0, 8, 8]]
    assert known[..., 1].tolist() == [[0, 0, 5, 5], [0, 0, 5, 5]]
    assert known[..., 2].sum() == known[1, 1, 2] == 1
    assert known[0, 0, 3:7] == pytest.approx([10 / 128, 16 / 64, 58 / 128, 62 / 64])
    assert known[0, 0, 7:11] == pytest.approx([10 / 32, 16 / 32, 1, 1])
    assert known[1, 1, 7:11] == pytest.approx([0, 0, 26 / 32, 30 / 32])
    assert (known[..., 11:] == UNKNOWN).all()
    # Of a window the places are those of the whole tile.
    part = landmarks([circle], (128, 64), (32, 32, 128, 64), (1, 3))
    assert np.array_equal(part, known[1, 1:].reshape(3, FACTS))


def test_tokens_are_told_their_letters():
    letters = [Letter("a", 3, 5), Letter("b", 9, 20), Letter("!", 63, 31), Letter("z", 300, 5)]
    known = letters_known(letters, (0, 0, 64, 32), (1, 2))
    slots = known[:, 11:].reshape(2, 2, 5)
    none = len(LETTERS)
    assert LETTERS[int(slots[0, 0, 0])] == "a"
    assert LETTERS[int(slots[0, 1, 1])] == "b"
    assert LETTERS[int(slots[1, 1, 4])] == "!"
    assert (slots == none).sum() == 20 - 3
    assert (known[:, :11] == UNKNOWN).all()


@pytest.mark.parametrize("kind", ["few lines", "wide", "any size", "scene", "wide scene", "video"])
def test_every_token_of_a_row_is_told_or_not(kind):
    """Tiles of text know their letters, single tiles their things; a thumbnail of text nothing."""
    row = Encoder().row(KINDS[kind].draw(random.Random(kind)))
    known = row.known.reshape(len(row.tiles), TOKENS, FACTS)
    has_letters, has_things = known[..., -1] != UNKNOWN, known[..., 0] != UNKNOWN
    many = len(row.tiles) > 1 and kind != "video"
    if "scene" in kind or kind == "video":
        assert not has_letters.any()
        assert has_things.all(-1).tolist() == [not many or tile == len(row.tiles) - 1
                                               for tile in range(len(row.tiles))]  # fmt: skip
    else:
        assert not has_things.any()
        assert has_letters.all(-1).tolist() == [not many or tile < len(row.tiles) - 1
                                                for tile in range(len(row.tiles))]  # fmt: skip
        assert (known[..., 11:] < len(LETTERS)).any()


@pytest.mark.parametrize("mixture", MIXTURES)
def test_steps_are_the_same_whenever_they_are_drawn(mixture):
    course = Course(mixture=mixture, parts=2, seed=7)
    whole, rest = Steps(course, 0, 3, 0), Steps(course, 2, 3, 0)
    assert (len(whole), len(rest)) == (3, 1)
    for one, other in zip(whole[2], rest[0], strict=True):
        assert one.kind == other.kind
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.tiles, other.tiles)


def test_the_first_steps_have_a_mixture_of_their_own_and_batches_a_scale():
    plan = Plan(steps=100, first="first", mixture="all", first_share=0.1, scale=3)
    assert [plan.course.at(step) for step in (0, 9, 10, 99)] == [
        MIXTURES["first"], MIXTURES["first"], MIXTURES["all"], MIXTURES["all"],
    ]  # fmt: skip
    assert len(Steps(Course(seed=1), 0, 1, 0)[0][0].ids) * 3 == len(
        Steps(Course(seed=1, scale=3), 0, 1, 0)[0][0].ids
    )


# Training.


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


def test_answers_point_at_what_they_are_about():
    """The red circle's box at its tokens, a count at none."""
    rng = random.Random(1)
    sample = next(
        one
        for one in iter(lambda: KINDS["scene"].draw(rng), None)
        if len(one.things[0]) > 1 and any(q.about and q.job == "ground" for q in one.questions)
        if not one.is_chat
    )
    row = Encoder().row(sample)
    place = TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>")
    context = [index for index, id_ in enumerate(row.ids) if id_ == place]
    starts = {}
    for index, segment in enumerate(row.segments):
        if row.labels[index] != IGNORED:
            starts.setdefault(segment, index)
    told = dict(zip(row.pointers, row.targets, strict=True))
    for number, question in enumerate(sample.questions, 1):
        target = told.get(starts[number] - 1)
        if question.about is None:
            assert target is None
            continue
        colour, kind = question.about
        right = [
            one
            for one in sample.things[0]
            if colour in (None, one.colour) and one.shape == (kind or one.shape)
            if kind or one.shape != "sign"
        ]
        looked_at = [token for token, index in enumerate(context) if target[index]]
        side = sample.pictures[0].width / 14
        for token in looked_at:
            x, y = (token % 14 + 0.5) * side, (token // 14 + 0.5) * side
            assert any(
                one.box[0] - side < x < one.box[2] + side
                and one.box[1] - side < y < one.box[3] + side
                for one in right
            )
        assert looked_at


def test_heads_learn_to_point():
    """The loss is that of an even gaze at first, and falls."""
    torch.manual_seed(0)
    model = build_model(SMALL)
    rng = random.Random(2)
    batch = collate("scene", [Encoder().row(KINDS["scene"].draw(rng)) for _ in range(2)], 0)
    features = see(model, batch.tiles, (0, 0)).detach()
    optimiser = torch.optim.Adam(model.model.language_model.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = pointing(model, batch, answer(model, batch, features)[2])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    seen = batch.mask.reshape(-1, batch.ids.shape[1])[batch.pointers].sum(-1)
    even = -(batch.targets.sum(-1) / seen).log().mean()
    assert losses[0] == pytest.approx(float(even), rel=0.2)
    assert losses[-1] < 0.7 * losses[0]


def test_steps_are_shown_again_until_the_next_is_there():
    """Each first in its order, then at most as often as it may; and what fails is told."""
    drawn = [[object()] for _ in range(5)]
    gate = threading.Semaphore(1)

    def slowly():
        for step in drawn:
            gate.acquire()
            yield step

    shown = []
    for step in feed(slowly(), list, 3, seed=1):
        shown.append(step[0])
        if len(shown) % 2 == 0:
            gate.release()
    assert [one for number, one in enumerate(shown) if one not in shown[:number]] == [
        step[0] for step in drawn
    ]
    assert 5 < len(shown) <= 15
    assert max(shown.count(step[0]) for step in drawn) <= 3

    def broken():
        yield drawn[0]
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        list(feed(broken(), list, 1, seed=1))


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


# Figures.


def test_intervals():
    score = scores.share([True] * 95 + [False] * 5)
    assert score.value == 0.95
    assert score.low == pytest.approx(0.888, abs=1e-3)  # Wilson, as statsmodels gives it
    assert score.high == pytest.approx(0.978, abs=1e-3)
    assert scores.share([True] * 10).high == 1.0
    rate = scores.error_rate([("abc", "abd"), ("abcd", "abcd")])
    assert rate.value == pytest.approx(1 / 7)
    assert rate.low <= rate.value <= rate.high


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_distance_is_levenshteins(one, other):
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    if len(one) + len(other) < 9:
        assert scores.distance(one, other) == slow(one, other)
    assert scores.distance(one, other) == scores.distance(other, one)


def test_lines_and_boxes():
    assert scores.right_lines("a\nb\nc", "a\nx\nc") == [True, False, True]
    assert scores.right_lines("a", "a\na") == [True, False]
    box = "<box>[[0, 0, 100, 100]]</box>"
    assert scores.overlap(box, box) == 1
    assert scores.overlap("<box>[[50, 0, 150, 100]]</box>", box) == pytest.approx(1 / 3)
    assert (
        scores.overlap("no box", box) == scores.overlap("<box>[[200, 0, 300, 9]]</box>", box) == 0
    )
