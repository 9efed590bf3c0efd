"""Where sentences end."""

import pytest

from langchain_internvl.documents.sentences import sentence_ends


@pytest.mark.parametrize(
    "sentences",
    [
        ["Ann pays 900 EUR to Mr. Smith and Dr. Who."],
        ["See art. 5 and No. 7, fig. B2.", "Then pay."],
        ["He said no.", "Then he left."],
        ["It costs i.e. 10 EUR, e.g. Berlin.", "And more."],
        ["Das sind z.B. 10 EUR, z. B. 12 EUR.", "Es bleibt."],
        ["J. Smith and J. R. R. Tolkien pay.", "They do."],
        ["It is 12.50.", "10 more are due."],
        ["Am 3. Mai 2024 endet es.", "Der Rest folgt."],
        ["It has 5 m.", "The end."],
        ["It ends at 5 p.m.", "The rent is due at 6 a.m. 5 May."],
        ["Acme Inc. pays.", "U.S. Steel does!", "Why?", "\u201cSo be it.\u201d", "Done."],
        ["\u201cWhy?\u201d he asked."],
        ["Paid by Smith et al. 2020, approx. 5 times, etc.", "It is."],
        ["It is art.", "The rest is no."],
    ],
)  # fmt: skip
def test_sentences(sentences):
    text = " ".join(sentences)
    at, found = 0, []
    for end, start in sentence_ends(text):
        found.append(text[at:end])
        at = start
    assert [*found, text[at:]] == sentences


def test_sentences_without_spaces():
    assert list(sentence_ends("家賃は。九百。")) == [(4, 4), (7, 7)]
