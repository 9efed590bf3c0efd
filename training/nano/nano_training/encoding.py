"""Samples to ids and tiles, by langchain-internvl's own prompts and tiling.

Several independent questions about one picture share a row: each sees the picture and itself,
not the others, and its positions go on from the picture's. So a picture is looked at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.tiling import choose_grid, tile_image
from langchain_internvl.messages.conversation import Image, Text, Turn, Video
from langchain_internvl.prompting.build import build_prompt
from langchain_internvl.prompting.templates import TEMPLATES
from langchain_internvl.prompting.tokenization import PromptTokenizer
from nano_training.batches import IGNORED, Row
from nano_training.model import build_tokenizer
from nano_training.pointing import Goal
from nano_training.samples import About, Asked, Question, Sample
from nano_training.sizes import SQUARE
from nano_training.things import (
    Letter,
    View,
    landmarks,
    letters_known,
    tokens_of,
    tokens_of_letters,
    unknown,
)


@dataclass(frozen=True)
class _Pointer:
    """Where a token is written, which heads are told where to look, and where: bool [length]."""

    place: int
    goal: Goal
    target: NDArray[np.bool_]


def _one(place: int, length: int) -> NDArray[np.bool_]:
    target = np.zeros(length, bool)
    target[place] = True
    return target


_PREFIX = 2
"""Letters of a word by which it is not known yet."""


def _of_asked(asked: Asked, text: int, length: int, places: range) -> list[_Pointer]:
    """From the answer to the question's end, from there to the word as the pages say it, and so on.

    Args:
        asked: The word.
        text: Place of the question's text.
        length: Length of the row.
        places: Those of the answer.
    """
    word, said, line = text + asked.word, text + asked.said, text + asked.line
    last = asked.length - 1
    return [
        *(
            _Pointer(word + number, Goal.FOUND, _one(said + min(number, last), length))
            for number in range(_PREFIX, asked.length + 1)
        ),
        *(_Pointer(said + number, Goal.LINE, _one(line, length)) for number in range(asked.length)),
        *(_Pointer(place - 1, Goal.ASKED, _one(word + last + 1, length)) for place in places),
    ]


_SIDE = 3
"""Letters at an end of a line by which that end is known."""

_NUMBERS = re.compile(r"\d+")


def _named_box(answer: str) -> tuple[str, str]:
    """NAME and BOX of `<ref>NAME</ref><box>BOX</box>`."""
    name, box = answer.removeprefix("<ref>").removesuffix("</box>").split("</ref><box>")
    return name, box


def _letters_of(name: str, start: int) -> range:
    """Places of the letters of a name in an answer that begins at `start`; <ref> is one token."""
    return range(start + 1, start + 1 + len(name))


def _of_box(name: str, box: str, start: int, length: int) -> list[_Pointer]:
    """From each digit of the one box of an answer to its name before it.

    Args:
        name: What is located.
        box: `[[LEFT, TOP, RIGHT, BOTTOM]]`.
        start: Place of the answer, which is what `_named_box` reads.
        length: Length of the row.
    """
    letters = _letters_of(name, start)
    told = (letters[:_SIDE], letters, letters[-_SIDE:], letters)
    pointers = []
    for number, places in zip(_NUMBERS.finditer(box), told, strict=True):
        target = np.zeros(length, bool)
        target[places] = True
        first = letters.stop + 2 + number.start()  # </ref> and <box>
        many = len(number[0])
        pointers += [_Pointer(first + digit - 1, Goal.ENDS, target) for digit in range(many)]
    return pointers


def _sides_known(name: str, box: str) -> NDArray[np.float32]:
    """What each letter of a located name should know, as `Row.sides` has it.

    All know its top and bottom; those at an end, that end.
    """
    sides = [int(number) / 1000 for number in _NUMBERS.findall(box)]
    known = np.tile(np.array(sides, np.float32), (len(name), 1))
    known[_SIDE:, 0] = np.nan
    known[: max(0, len(name) - _SIDE), 2] = np.nan
    return known


class Encoder:
    """Writes samples in the template of the embedded model."""

    def __init__(self) -> None:
        self._tokenizer = PromptTokenizer(build_tokenizer())
        self._template = TEMPLATES["internvl-hf"]
        self._end = self._tokenizer.stop_id(self._template.stop)

    def row(self, sample: Sample, *, whole_tiles: bool = True, text_from: int = 0) -> Row:
        """A sample as a model reads it.

        Args:
            sample: The sample.
            whole_tiles: Cut pictures into tiles; else each is one window, as it is.
            text_from: The first position that the text after the pictures may have: where it would
                begin earlier, positions are left out before it.
        """
        cut = [self._tiles(sample, picture, whole=whole_tiles) for picture in sample.pictures]
        height, width = cut[0].shape[1:3]
        tokens = [len(tiles) * height * width // SQUARE**2 for tiles in cut]
        chats = [sample.questions] if sample.is_chat else [[one] for one in sample.questions]
        rows = [self._chat(sample, chat, tokens) for chat in chats]
        shared = _shared(rows, self._tokenizer.image_context_id)
        ids, labels = rows[0][0][:shared], rows[0][1][:shared]
        segments = [0] * shared
        for number, (more_ids, more_labels) in enumerate(rows, 1):
            ids = ids + more_ids[shared:]
            labels = labels + more_labels[shared:]
            segments += [number] * (len(more_ids) - shared)
        known = np.concatenate([self._known(sample, *one) for one in enumerate(cut)])
        pointers = self._pointers(sample, ids, labels, known, cut)
        targets = [pointer.target for pointer in pointers]
        text = int(self._context(ids)[-1]) + 1
        located, sides = _located(sample, labels)
        return Row(
            np.concatenate(cut),
            ids,
            labels,
            segments,
            known,
            [pointer.place for pointer in pointers],
            [pointer.goal for pointer in pointers],
            np.stack(targets) if targets else np.zeros((0, len(ids)), bool),
            (text, max(0, text_from - text)),
            located,
            sides,
        )

    def _pointers(
        self,
        sample: Sample,
        ids: list[int],
        labels: list[int],
        known: NDArray[np.float32],
        cut: Sequence[NDArray[np.uint8]],
    ) -> list[_Pointer]:
        """Where tokens are written that are about something, and where the tokens of that are."""
        context = self._context(ids)
        pointers: list[_Pointer] = []
        for question, (start, end) in zip(sample.questions, _answers(labels), strict=True):
            if question.job == "read" and len(sample.letters) == 1:
                pointers += self._of_reading(
                    sample, sample.letters[0], question.answer, start=start, ids=ids, cut=cut
                )
            named: NDArray[np.bool_] | None = None
            for about in question.about:
                places = range(start + about.begin, end if about.end is None else start + about.end)
                target = np.zeros(len(ids), bool)
                if about.copied is not None:
                    text = self._text_before(ids, start, question)
                    pointers += [
                        _Pointer(
                            place - 1, Goal.COPIED, _one(text + about.copied + number, len(ids))
                        )
                        for number, place in enumerate(places)
                    ]
                    if about.asked is not None:
                        pointers += _of_asked(about.asked, text, len(ids), places)
                    continue
                if about.letters:
                    name, box = _named_box(question.answer)
                    pointers += self._of_reading(
                        sample, about.letters, name, start=start + 1, ids=ids, cut=cut, known=1
                    )
                    pointers += _of_box(name, box, start, len(ids))
                target[context] = self._looked_at(sample, about, known, cut)
                if target.any():
                    pointers += [_Pointer(place - 1, Goal.THING, target) for place in places]
                if named is not None:
                    pointers += [_Pointer(place - 1, Goal.NAMED, named) for place in places]
                named = target if target.any() else None
        return pointers

    def _of_reading(
        self,
        sample: Sample,
        letters: Sequence[Letter],
        text: str,
        *,
        start: int,
        ids: list[int],
        cut: Sequence[NDArray[np.uint8]],
        known: int = 0,
    ) -> list[_Pointer]:
        """The letter that was read last, and the next one.

        Args:
            sample: The sample.
            letters: What is read of its one picture.
            text: The same with spaces and ends of lines.
            start: Place of the first letter that is written.
            ids: The row.
            cut: The picture's tiles.
            known: Letters that must have been written before the next one's place is known; of a
                whole page it is known at once.
        """
        read = [place for place, letter in enumerate(text) if letter not in " \n"]
        if len(read) != len(letters):
            return []
        context = self._context(ids)
        seen_on = self._tokens_with(sample, letters, cut[0])
        pointers: list[_Pointer] = []
        last = -1
        following = dict(zip(read, seen_on, strict=True))
        for place in range(known, len(text) + 1):
            last = following.get(place - 1, last)
            for goal, token in ((Goal.HERE, last), (Goal.NEXT, following.get(place, -1))):
                if token >= 0:
                    target = _one(int(context[token]), len(ids))
                    pointers.append(_Pointer(start + place - 1, goal, target))
        return pointers

    def _context(self, ids: list[int]) -> NDArray[np.int64]:
        return np.flatnonzero(np.asarray(ids) == self._tokenizer.image_context_id)

    def _text_before(self, ids: list[int], start: int, question: Question) -> int:
        """Where the text of the question that is answered from `start` on begins."""
        end = start - 1 - ids[:start][::-1].index(self._end)
        return end - len(self._tokenizer.encode_text(question.text))

    def _looked_at(
        self,
        sample: Sample,
        about: About,
        known: NDArray[np.float32],
        cut: Sequence[NDArray[np.uint8]],
    ) -> NDArray[np.bool_]:
        """Which context tokens have seen what a part of an answer is about."""
        if not about.letters:
            found = tokens_of(known, about.colour, about.kind)
            if about.picture is not None:
                sizes = [len(tiles) * tiles.shape[1] * tiles.shape[2] // SQUARE**2 for tiles in cut]
                found &= np.repeat(np.arange(len(cut)), sizes) == about.picture
            return found
        seen = np.zeros(len(known), bool)
        seen[self._tokens_with(sample, about.letters, cut[0])] = True
        return seen

    def _tokens_with(
        self, sample: Sample, letters: Sequence[Letter], tiles: NDArray[np.uint8]
    ) -> list[int]:
        """On which token of the first picture each letter is."""
        return tokens_of_letters(letters, *self._views(sample, 0, tiles))

    def _views(
        self, sample: Sample, number: int, tiles: NDArray[np.uint8]
    ) -> tuple[list[View], tuple[int, int]]:
        """The part of a picture that each tile shows, thumbnail left out; rows and columns."""
        tokens = tiles.shape[1] // SQUARE, tiles.shape[2] // SQUARE
        size = sample.size or sample.pictures[number].size
        if len(tiles) == 1:
            return [sample.view or (0, 0, *size)], tokens
        columns, rows = choose_grid(*size, 1, sample.most_tiles)
        wide, high = size[0] / columns, size[1] / rows
        views = [
            (column * wide, row * high, (column + 1) * wide, (row + 1) * high)
            for row in range(rows)
            for column in range(columns)
        ]
        return list(views), tokens

    def _known(self, sample: Sample, number: int, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the tokens of a picture should know of its things or letters."""
        views, tokens = self._views(sample, number, tiles)
        size = sample.size or sample.pictures[number].size
        nothing = unknown(tokens[0] * tokens[1])
        known = []
        for place in views:
            if sample.letters:
                known.append(letters_known(sample.letters[number], place, tokens))
            elif sample.things and len(tiles) == 1:
                known.append(landmarks(sample.things[number], size, place, tokens))
            else:  # where on the whole picture it is, a tile cannot know
                known.append(nothing)
        if len(tiles) > 1:  # the thumbnail, where letters are too small
            whole = sample.view or (0, 0, *size)
            things = sample.things
            known.append(landmarks(things[number], size, whole, tokens) if things else nothing)
        return np.concatenate(known)

    def _tiles(self, sample: Sample, picture: Picture, *, whole: bool) -> NDArray[np.uint8]:
        if not whole:
            return np.asarray(picture)[None]
        return tile_image(picture, 1, 1 if sample.is_video else sample.most_tiles)

    def _chat(
        self, sample: Sample, chat: Sequence[Question], tokens: list[int]
    ) -> tuple[list[int], list[int]]:
        """Ids and labels of a chat."""
        turns = [] if sample.system is None else [Turn("system", (Text(sample.system),))]
        media = self._media(sample)
        ids: list[int] = []
        labels: list[int] = []
        for question in chat:
            turns.append(Turn("user", (*media, Text(question.text))))
            prompt = self._tokenizer.encode(build_prompt(turns, self._template), tokens)
            reply = [*self._tokenizer.encode_text(question.answer), self._end]
            labels += [IGNORED] * (len(prompt) - len(ids)) + reply
            ids = prompt + self._written(question, reply)
            turns.append(Turn("assistant", (Text(question.answer),)))
            media = ()
        return ids, labels

    def _written(self, question: Question, reply: list[int]) -> list[int]:
        """The ids that a reply is seen as while it goes on."""
        if question.written is None:
            return reply
        written = [*self._tokenizer.encode_text(question.written), self._end]
        if len(written) != len(reply):
            raise ValueError(f"{question.written!r} is not as long as {question.answer!r}")
        return written

    def _media(self, sample: Sample) -> tuple[Image | Text | Video, ...]:
        images = tuple(Image(BytesSource(b"", "a drawing")) for _ in sample.pictures)
        if sample.is_numbered:
            numbered = zip(images, range(1, len(images) + 1), strict=True)
            return tuple(part for image, one in numbered for part in (Text(f"[{one}]"), image))
        return (Video(images),) if sample.is_video else images


def _located(sample: Sample, labels: list[int]) -> tuple[list[int], NDArray[np.float32]]:
    """Places of the letters of located names, and what each should know (`Row.sides`)."""
    places: list[int] = []
    known = [np.zeros((0, 4), np.float32)]
    for question, (start, _) in zip(sample.questions, _answers(labels), strict=True):
        if any(about.letters for about in question.about):
            name, box = _named_box(question.answer)
            places += _letters_of(name, start)
            known.append(_sides_known(name, box))
    return places, np.concatenate(known)


def _answers(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Where answers begin and end."""
    learnt = np.asarray(labels) != IGNORED
    edges = np.flatnonzero(np.diff(learnt, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _shared(rows: Sequence[tuple[list[int], list[int]]], context: int) -> int:
    """Length of what comes before the questions: up to the last picture, and the line's end."""
    ids = rows[0][0]
    if len(rows) == 1:
        return len(ids)
    last = len(ids) - 1 - ids[::-1].index(context)
    return last + 3
