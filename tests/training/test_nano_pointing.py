"""Heads are told where to look while answers are written."""

import random
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from nano_training.batches import IGNORED, collate
from nano_training.encoding import Encoder
from nano_training.landmarks import Landmarks, places_on_tile
from nano_training.mixture import KINDS
from nano_training.model import answer, build_config, build_model, see
from nano_training.pointing import HEADS, WEIGHTS, Goal, pointing
from nano_training.scenes import describe, described, draw_scene
from nano_training.things import LETTERS
from support_nano import SMALL, TOKENIZER

pytestmark = pytest.mark.slow


def test_answers_point_at_what_they_are_about():
    """The red circle's box at its tokens, a count at none."""
    rng = random.Random(1)
    sample = next(
        one
        for one in iter(lambda: KINDS["scene"].draw(rng), None)
        if len(one.things[0]) > 1
        and {"ground", "describe", "ask"} == {question.job for question in one.questions}
        and not one.is_chat
    )
    row = Encoder().row(sample)
    place = TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>")
    context = [index for index, id_ in enumerate(row.ids) if id_ == place]
    starts = {}
    for index, segment in enumerate(row.segments):
        if row.labels[index] != IGNORED:
            starts.setdefault(segment, index)
    told = _told(row, Goal.THING)
    for number, question in enumerate(sample.questions, 1):
        if not question.about:
            assert starts[number] - 1 not in told
        for about in question.about:
            target = told[starts[number] + about.begin - 1]
            right = [
                one
                for one in sample.things[0]
                if about.colour in (None, one.colour) and one.shape == (about.kind or one.shape)
                if about.kind or one.shape != "sign"
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


def test_descriptions_point_at_each_thing_while_they_name_it():
    rng = random.Random(4)
    for count in (1, 3, 4):
        _, things = draw_scene(rng, 448, 448, count=count)
        said = describe(things)
        said = said[0].lower() + said[1:] if count == 1 else said
        names = [said[about.begin : about.end] for about in described(things)]
        assert sorted(names) == sorted(thing.full_name for thing in things)
        assert [about.begin for about in described(things)] == [said.index(one) for one in names]
    # The comma between two names is about neither.
    sample = next(
        one
        for one in iter(lambda: KINDS["scene"].draw(rng), None)
        if len(one.things[0]) == 4 and one.questions[0].job == "describe" and not one.is_chat
    )
    row = Encoder().row(sample)
    start = next(index for index, id_ in enumerate(row.labels) if id_ != IGNORED)
    told = _told(row, Goal.THING)
    pointers = {place - start + 1 for place in told if row.segments[place + 1] == 1}
    answer = sample.questions[0].answer
    unsaid = "".join(letter for index, letter in enumerate(answer) if index not in pointers)
    assert unsaid == "From left to right: , , , ."
    # While a name is written another head looks at the thing that was named before.
    abouts = sample.questions[0].about
    before = _told(row, Goal.NAMED)
    for last, about in pairwise(abouts):
        for place in range(about.begin, about.end or 0):
            looked_at = before[start + place - 1]
            assert np.array_equal(looked_at, told[start + last.begin - 1])
    assert start + abouts[0].begin - 1 not in before


def test_descriptions_of_pictures_point_at_the_one_that_they_name():
    """Also where another picture holds the same thing."""
    sample = next(
        sample
        for sample in (KINDS["pair"].draw(random.Random(seed)) for seed in range(200))
        if not sample.is_chat
        and {one.name for one in sample.things[0]} & {one.name for one in sample.things[1]}
    )
    row = Encoder().row(sample)
    context = np.flatnonzero(
        np.asarray(row.ids) == TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>")
    )
    each = len(context) // len(sample.pictures)
    told = _told(row, Goal.THING)
    starts = [
        place
        for place, (before, label) in enumerate(pairwise(row.labels), 1)
        if before == IGNORED != label
    ]
    names = 0
    for question, start in zip(sample.questions, starts, strict=True):
        one_alone = question.text.startswith("What is in Image-")
        for about in question.about:
            before = question.answer[: about.begin].rpartition("Image-")[2]
            number = int(question.text[-2] if one_alone else before[0])
            for place in range(about.begin, about.end):
                seen = np.searchsorted(context, np.flatnonzero(told[start + place - 1]))
                assert set(seen // each) == {number - 1}
            names += 1
    assert names > sum(len(things) for things in sample.things)


def test_answers_about_a_line_point_at_its_letters():
    sample = KINDS["short list"].draw(random.Random(6))
    question = next(one for one in sample.questions if one.job == "ground")
    alone = type(sample)(
        sample.pictures, [question], letters=sample.letters, most_tiles=sample.most_tiles
    )
    row = Encoder().row(alone)
    place = TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>")
    context = [index for index, id_ in enumerate(row.ids) if id_ == place]
    told = _told(row, Goal.THING)
    seen = {token for token, index in enumerate(context) if next(iter(told.values()))[index]}
    letters = question.about[0].letters
    assert seen == {int(one.y // 32) * 14 + int(one.x // 32) for one in letters}
    assert "".join(one.letter for one in letters) in question.answer.replace(" ", "")
    assert len(told) == sum(id_ != IGNORED for id_ in row.labels)
    assert set(row.goals) == {Goal.THING, Goal.HERE, Goal.NEXT, Goal.ENDS}


def test_answers_about_a_line_point_from_its_letters_to_the_picture_and_from_its_box_to_them():
    sample = KINDS["placed lines"].draw(random.Random(8))
    question = next(one for one in sample.questions if one.job == "ground" and " " in one.answer)
    row = Encoder().row(type(sample)(sample.pictures, [question], letters=sample.letters))
    start = next(index for index, id_ in enumerate(row.labels) if id_ != IGNORED)
    context = np.flatnonzero(np.array(row.ids) == TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>"))
    name = question.answer.split("</ref>")[0].removeprefix("<ref>")
    letters = list(question.about[0].letters)
    on = [int(one.y // 32) * 14 + int(one.x // 32) for one in letters]
    written = [start + 1 + index for index, letter in enumerate(name) if letter != " "]
    here, following = _told(row, Goal.HERE), _told(row, Goal.NEXT)
    assert sorted(here) == list(range(start + 1, start + 1 + len(name)))
    for place, token in zip(written, on, strict=True):
        assert np.flatnonzero(here[place]).tolist() == [context[token]]
        if place > start + 1:  # where a line begins is not known at its first letter
            assert np.flatnonzero(following[place - 1]).tolist() == [context[token]]
    assert set(following) == {place - 1 for place in written[1:]}
    ends = _told(row, Goal.ENDS)
    pointed = TOKENIZER.decode([row.ids[place + 1] for place in sorted(ends)])
    box = question.answer.split("<box>")[1]
    assert pointed == "".join(letter for letter in box if letter.isdigit())
    places = [np.flatnonzero(ends[place]).tolist() for place in sorted(ends)]
    whole = list(range(start + 1, start + 1 + len(name)))
    assert places[0] == whole[:3]
    assert places[-1] == whole
    assert {tuple(some) for some in places} == {
        tuple(some) for some in (whole, whole[:3], whole[-3:])
    }


def test_letters_of_located_names_know_where_the_line_is():
    samples = [KINDS["placed lines"].draw(random.Random(seed)) for seed in range(3)]
    batch = collate("placed lines", [Encoder().row(one) for one in samples], 0)
    asked = [one.answer for sample in samples for one in sample.questions if one.job == "ground"]
    names = [answer.split("</ref>")[0].removeprefix("<ref>") for answer in asked]
    said = TOKENIZER.decode(batch.ids.flatten()[batch.located].tolist())
    assert said == "".join(names)
    known = batch.sides.split([len(name) for name in names])
    for answer_, sides in zip(asked, known, strict=True):
        box = [int(one) / 1000 for one in re.findall(r"\d+", answer_.split("<box>")[1])]
        left, top, right, bottom = sides.T
        assert torch.equal(sides[~sides.isnan()].unique(), torch.tensor(box).unique())
        assert (left[:3] == torch.tensor(box[0])).all()
        assert left[3:].isnan().all()
        assert (right[-3:] == torch.tensor(box[2])).all()
        assert right[:-3].isnan().all()
        assert (top == torch.tensor(box[1])).all()
        assert (bottom == torch.tensor(box[3])).all()
    nothing = collate("few lines", [Encoder().row(KINDS["few lines"].draw(random.Random(1)))], 0)
    assert len(nothing.located) == len(nothing.sides) == 0


@pytest.mark.parametrize("kind", ["placed lines", "wide", "small read list"])
def test_letters_that_were_read_know_the_place_of_their_token_on_its_tile(kind):
    samples = [KINDS[kind].draw(random.Random(seed)) for seed in range(2)]
    samples = [replace(one, questions=one.questions[:1]) for one in samples]
    batch = collate(kind, [Encoder().row(one) for one in samples], 0)
    context = TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>")
    here = (batch.goals == Goal.HERE).nonzero()[:, 0]
    on_tile = places_on_tile((448, 448), (0, 0))
    places = on_tile[batch.looked_at(here, context) % 196]
    letters = [one for sample in samples for one in sample.letters[0]]
    expected = [
        [(one.y % 448 // 32 * 32 + 16) / 448, (one.x % 448 // 32 * 32 + 16) / 448]
        for one in letters
    ]
    written = batch.ids.flatten()[batch.pointers[here]].tolist()
    is_letter = [TOKENIZER.decode([id_]) not in (" ", "\n") for id_ in written]
    assert torch.allclose(places[torch.tensor(is_letter)], torch.tensor(expected))


def test_what_letters_know_is_asked_as_of_the_tokens_that_they_were_read_from():
    landmarks = Landmarks(16)
    with torch.no_grad():
        landmarks.places.weight.normal_()
    letters = torch.randn(5, 16, requires_grad=True)
    places = torch.rand(5, 2)
    landmarks.letters_read(letters, places).backward()
    assert letters.grad.abs().sum() > 0
    assert landmarks.places.weight.grad is None
    optimiser = torch.optim.Adam([letters], lr=0.05)
    before = landmarks.letters_read(letters, places).item()
    for _ in range(200):
        optimiser.zero_grad()
        loss = landmarks.letters_read(letters, places)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 * before


def test_what_letters_do_not_know_does_not_reach_gradients():
    torch.manual_seed(0)
    landmarks = Landmarks(16)
    sides = torch.tensor([[0.1, 0.2, torch.nan, 0.4], [torch.nan, 0.2, 0.9, 0.4]])
    letters = torch.randn(2, 16, requires_grad=True)
    optimiser = torch.optim.AdamW(landmarks.sides.parameters(), lr=0.05)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        loss = landmarks.lines(letters, sides)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert letters.grad.isfinite().all()
    assert losses[-1] < 0.05 * losses[0]
    other = sides.clone()
    other[0, 0] = 0.6  # what a letter knows counts
    assert landmarks.lines(letters, other).item() > 10 * losses[-1]


@pytest.mark.parametrize("kind", ["few lines", "wide", "middle list", "stretched"])
def test_reading_points_at_the_last_letter_and_the_next(kind):
    """The tokens of both are those in whose squares the letters are."""
    sample = KINDS[kind].draw(random.Random(kind))
    sample = type(sample)(sample.pictures, sample.questions[:1], letters=sample.letters)
    row = Encoder().row(sample)
    answer = sample.questions[0].answer
    start = next(index for index, id_ in enumerate(row.labels) if id_ != IGNORED)
    place = TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>")
    context = [index for index, id_ in enumerate(row.ids) if id_ == place]
    slots = row.known[:, 11:]
    here, following = _told(row, Goal.HERE), _told(row, Goal.NEXT)
    letters = [index for index, letter in enumerate(answer) if not letter.isspace()]
    assert {index - start + 1 for index in following} == set(letters)
    assert {index - start + 1 for index in here} == set(range(1, len(answer) + 1))
    for index, target in following.items():
        token = context.index(int(np.flatnonzero(target)[0]))
        assert target.sum() == 1
        assert LETTERS.index(answer[index - start + 1]) in slots[token]
    for index, target in here.items():
        last = max(one for one in letters if one < index - start + 1)
        assert np.array_equal(target, following[start + last - 1])


def test_cited_answers_point_at_what_they_repeat():
    """Each letter of the line at itself in the question's text, and the mark at its page's."""
    rng = random.Random(8)
    sample = next(
        one
        for one in iter(lambda: KINDS["cited"].draw(rng), None)
        if len(one.pictures) == 2 and all(question.about for question in one.questions)
    )
    row = Encoder().row(sample)
    told = _told(row, Goal.COPIED)
    assert set(row.goals) == {Goal.COPIED, Goal.FOUND, Goal.LINE, Goal.ASKED}
    written, found = [], []
    for index, target in told.items():
        written.append(row.ids[index + 1])
        found += [row.ids[place] for place in np.flatnonzero(target)]
        assert row.segments[index + 1] == row.segments[int(np.flatnonzero(target)[0])]
    assert written == found
    unsaid = "".join(question.answer for question in sample.questions)
    assert len(written) == len(unsaid) - 2 * len(sample.questions)  # the space and the full stop
    asked = _told(row, Goal.FOUND)
    for index, target in asked.items():
        places = index, int(np.flatnonzero(target)[0])
        letter, seen = (TOKENIZER.decode(row.ids[place]) for place in places)
        assert target.sum() == 1
        assert letter.lower() == seen.lower() or letter == "?"
    words = [question.text.rstrip("?").split()[-1] for question in sample.questions]
    assert len(asked) == sum(len(word) - 1 for word in words)
    ends = [int(np.flatnonzero(target)[0]) for target in _told(row, Goal.ASKED).values()]
    assert [TOKENIZER.decode(row.ids[place]) for place in ends] == ["?"] * len(ends)
    assert set(ends) <= set(asked)
    lines = {int(np.flatnonzero(target)[0]) for target in _told(row, Goal.LINE).values()}
    for place in lines:
        assert TOKENIZER.decode(row.ids[place - 1]) in "\n "
        assert place in {int(np.flatnonzero(target)[0]) for target in told.values()}


@pytest.mark.parametrize(("goal", "kind"), [
    (Goal.THING, "described"), (Goal.NAMED, "described"), (Goal.HERE, "few lines"),
    (Goal.NEXT, "few lines"), (Goal.COPIED, "cited"), (Goal.FOUND, "cited"), (Goal.LINE, "cited"),
    (Goal.ASKED, "cited"), (Goal.ENDS, "placed lines"),
])  # fmt: skip
def test_each_goal_teaches_the_heads_that_it_names(goal, kind):
    """Of nano's layers and heads those that `HEADS` names."""
    own = {
        goal: {(layer, head) for layer, heads in layers for head in heads}
        for goal, layers in HEADS.items()
    }
    model = build_model(build_config(TOKENIZER))
    rng = random.Random(3)
    batch = collate(kind, [Encoder().row(KINDS[kind].draw(rng)) for _ in range(2)], 0)
    mine = batch.goals == goal
    batch = replace(
        batch, pointers=batch.pointers[mine], goals=batch.goals[mine], targets=batch.targets[mine]
    )
    features = see(model, batch.tiles, (0, 0)).detach()
    read = [one.detach() for one in answer(model, batch, features)[2]]
    pointing(model, batch, read).backward()
    layers = model.model.language_model.layers
    taught = {
        (len(layers) - number, head)
        for number, layer in enumerate(layers)
        if layer.self_attn.q_proj.weight.grad is not None
        for head, part in enumerate(layer.self_attn.q_proj.weight.grad.split(32))
        if part.abs().max() > 0
    }
    assert taught == own[goal]


def _told(row, goal):
    """Targets by place."""
    told = zip(row.pointers, row.goals, row.targets, strict=True)
    return {place: target for place, own, target in told if own == goal}


@pytest.mark.parametrize("kind", ["scene", "few lines", "cited"])
def test_heads_learn_to_point(kind):
    """The loss is that of an even gaze at first, and falls."""
    torch.manual_seed(0)
    model = build_model(SMALL)
    rng = random.Random(2)
    batch = collate("scene", [Encoder().row(KINDS[kind].draw(rng)) for _ in range(2)], 0)
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
    each = -(batch.targets.sum(-1) / seen).log()
    goals = batch.goals.unique().tolist()
    layers = {goal: len(HEADS[goal]) for goal in goals}
    even = sum(layers[goal] * WEIGHTS[goal] * each[batch.goals == goal].mean() for goal in goals)
    assert losses[0] == pytest.approx(float(even), rel=0.2)
    assert losses[-1] < 0.7 * losses[0]
