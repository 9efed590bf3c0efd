import pytest

from langchain_internvl import Box
from langchain_internvl.evaluation import (
    acc_at_iou,
    anls,
    cer,
    compare,
    estimate,
    exact_match,
    mvbench_accuracy,
    ocrbench,
    option_letter,
    relaxed_accuracy,
    wer,
)


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("Hello  World", ["hello world"], 1 / 1),
        ("helo", ["hello"], 0.8),
        ("help me", ["hello"], 0.0),  # below one half
        ("8", ["7", "8"], 1.0),
        ("", [""], 1.0),
        ("x", "x", 1.0),
    ],
)
def test_anls(prediction, answers, score):
    assert anls(prediction, answers) == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "target", "is_right"),
    [
        ("104.9", "100", True),
        ("105.1", "100", False),
        ("5%", "0.05", True),
        ("5%", "5", False),
        ("0", "0", True),
        ("0.0", "0", False),  # a target of 0 has no relative difference
        ("Blue", "blue", True),
        ("blue ", "blue", False),
        ("-95", "-100", True),
    ],
)
def test_relaxed_accuracy(prediction, target, is_right):
    assert relaxed_accuracy(prediction, target) is is_right


@pytest.mark.parametrize(
    ("prediction", "answers", "dataset", "is_right"),
    [
        ("It says CENTRE.", ["centre"], "", True),
        ("total\n\uff11\uff12", "total 12", "", True),
        ("x ^ 2", "x^2", "HME100k", True),
        ("X^2", "x^2", "HME100k", False),
        ("x ^ 2", "x^2", "", False),
    ],
)
def test_ocrbench(prediction, answers, dataset, is_right):
    assert ocrbench(prediction, answers, dataset) is is_right


def test_error_rates_may_exceed_one():
    assert cer("abcd", "ab") == 1.0
    assert cer("kitten", "sitting") == pytest.approx(3 / 7)
    assert wer("the cat sat", "the cat sat down") == 0.25
    assert wer("a b c d", "a") == 3.0
    assert (cer("", ""), cer("a", ""), wer("", "")) == (0.0, 1.0, 0.0)


def test_both_forms_of_unicode_are_one_text():
    """A PDF's text layer often has accents as characters of their own."""
    composed, decomposed = "Café Zürich", "Cafe\u0301 Zu\u0308rich"
    assert cer(composed, decomposed) == cer(decomposed, composed) == 0.0
    assert wer(composed, decomposed) == 0.0
    assert cer("Cafe", "Cafe\u0301") == 0.25
    assert exact_match(decomposed, [composed.upper()])


def test_no_answers_are_refused():
    for score in (anls, ocrbench, exact_match):
        with pytest.raises(ValueError, match="at least one"):
            score("x", [])


def test_options():
    assert option_letter("It is (C), neither 1) nor 2).") == "C"
    assert option_letter("B") == "B"
    assert option_letter("none of them") == ""
    assert option_letter("E", "ABCDE") == "E"
    assert mvbench_accuracy("(B) moving left", "B. moving left")
    assert not mvbench_accuracy("A", "B. moving left")


def test_boxes():
    box = Box(x1=0, y1=0, x2=100, y2=100)
    half = Box(x1=0, y1=0, x2=100, y2=50)
    assert acc_at_iou(half, box)
    assert not acc_at_iou(half, box, threshold=0.51)
    assert acc_at_iou((0, 0, 10, 5), (0, 0, 10, 10))
    assert not acc_at_iou(None, box)
    assert acc_at_iou([5, 5, 5, 9], (5, 5, 5, 9))
    assert not acc_at_iou((5, 5, 5, 9), (5, 6, 5, 9))
    assert not acc_at_iou((0, 0, 1, 1), (2, 2, 3, 3), 0.01)
    with pytest.raises(TypeError, match="both"):
        acc_at_iou(box, (0, 0, 1, 1))
    with pytest.raises(ValueError, match="left, top"):
        acc_at_iou((0, 0, 1), (0, 0, 1, 1))


def test_intervals_cover_the_mean_and_shrink():
    few, many = estimate([0, 1] * 10), estimate([0, 1] * 1000)
    assert few.low < few.mean == 0.5 < few.high
    assert many.high - many.low < (few.high - few.low) / 5
    assert estimate([1.0] * 5) == estimate([1.0] * 5)
    better = compare([0.0] * 50, [1.0] * 40 + [0.0] * 10)
    assert better.mean == 0.8
    assert better.low > 0
    with pytest.raises(ValueError, match="same cases"):
        compare([1], [1, 0])
