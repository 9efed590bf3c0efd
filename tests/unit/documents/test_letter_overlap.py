"""Similar text is found as by comparing all parts, in few comparisons."""

import random

import pytest

from langchain_internvl.documents import line_matching
from langchain_internvl.documents.letter_overlap import LetterOverlap
from langchain_internvl.documents.line_matching import match_lines
from langchain_internvl.documents.page_words import same_numbers, words_of

fuzz = pytest.importorskip("rapidfuzz.fuzz")
LCSseq = pytest.importorskip("rapidfuzz.distance").LCSseq

LETTERS = ("家賃月額九百", "abc de fg hi", "ab 12 34.5 1 2", "家賃a b12三四 5", "ああいいうう")


def text_of(chance, letters, size):
    """Text in which short phrases come again and again."""
    phrases = ["".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(6)]
    text = ""
    while len(text) < size:
        text += chance.choice(phrases) + chance.choice(["", "", " "])
    return text[:size]


def changed(chance, letters, text, share):
    """A text of which a share of the letters is replaced or missing."""
    return "".join(
        (chance.choice(letters) if chance.random() < 0.5 else "")
        if chance.random() < share
        else one
        for one in text
    )


def test_the_longest_common_subsequence_with_each_beginning():
    chance = random.Random(1)
    for letters in LETTERS * 4:
        statement, text = (text_of(chance, letters, chance.randint(1, 90)) for _ in range(2))
        expected = [LCSseq.similarity(statement, text[:end]) for end in range(len(text) + 1)]
        assert LetterOverlap(statement).with_beginnings(text) == expected


@pytest.mark.parametrize("least", [0.5, 0.8, 0.93])
def test_no_similar_part_begins_before_the_next_place(least):
    chance = random.Random(2)
    skipped = 0
    for letters in LETTERS * 6:
        page = text_of(chance, letters, 120)
        statement = changed(chance, letters, page[30:50], 0.2) or "x"
        longest = int(1.5 * len(statement))
        overlap = LetterOverlap(statement)
        for place in range(0, 100, 7):
            common = overlap.with_beginnings(page[place : place + longest])
            passed = overlap.skipped(common, least, longest)
            skipped += passed
            for start in range(place, min(place + passed, len(page))):
                for end in range(start + 1, min(start + longest, len(page)) + 1):
                    assert fuzz.ratio(statement, page[start:end]) < 100 * least
            for size in range(1, len(common)):
                ratio = fuzz.ratio(statement, page[place : place + size])
                assert ratio < 100 * least or (
                    passed == 0 and overlap.may_reach(common, size, ratio / 100)
                )
    assert skipped > 100


def best_score(statement, texts):
    """The best score of all runs of words."""
    wanted = words_of(statement)
    letters = "".join(word.letters for word in wanted)
    words = [word for text in texts for word in words_of(text)]
    best = 0.0
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            run = words[start:end]
            score = fuzz.ratio(letters, "".join(word.letters for word in run)) / 100
            if score >= 0.8:
                best = max(best, min(score, 0.99) * same_numbers(wanted, run))
    return best


def test_the_best_of_all_runs_of_words_is_found():
    chance = random.Random(3)
    found = 0
    for letters in LETTERS * 12:
        texts = [text_of(chance, letters, chance.randint(0, 20)) for _ in range(6)]
        page = "".join(texts)
        start = chance.randrange(max(1, len(page) - 20))
        statement = changed(chance, letters, page[start : start + chance.randint(8, 24)], 0.15)
        said = match_lines(statement, texts, by_words=False)
        if len("".join(word.letters for word in words_of(statement))) < 5:
            continue
        if said is not None and said.score == 1:
            continue  # word for word, which needs no comparison
        best = best_score(statement, texts)
        assert (said.score if said else 0.0) == pytest.approx(best, abs=2e-9) or (
            said is not None and said.score == pytest.approx(0.85) and best < 0.85  # within words
        )
        found += said is not None
    assert found > 10


def test_long_statements_without_spaces_take_few_comparisons(monkeypatch):
    counts = {"passes": 0, "ratios": 0}

    class Counting(LetterOverlap):
        def with_beginnings(self, text):
            counts["passes"] += 1
            return super().with_beginnings(text)

        def may_reach(self, *given):
            reached = super().may_reach(*given)
            counts["ratios"] += reached
            return reached

    monkeypatch.setattr(line_matching, "LetterOverlap", Counting)
    chance = random.Random(4)
    letters = "家賃は月額九百ユーロとし毎月三日までに銀行振込により支払う敷金は終了時に返還"
    texts = ["".join(chance.choices(letters, k=40)) for _ in range(200)]
    page = "".join(texts)
    statement = changed(chance, letters, page[4000:4300], 0.15)
    found = match_lines(statement, texts)
    assert set(range(101, 107)) <= set(found.lines)
    # The page has 8,000 words of one letter, and 200 runs that begin at each may be similar.
    assert counts["passes"] < 500
    assert counts["ratios"] < 8000
    counts.update(passes=0, ratios=0)
    assert match_lines("".join(chance.choices(letters, k=300)), texts) is None
    assert counts["passes"] < 200
    assert counts["ratios"] == 0
