"""Which box of an answer has which label, and in which order its numbers are."""

import pytest

from langchain_internvl.grounding import parse_grounding


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        # Each box of Gemini's key is top, left, bottom, right.
        (
            '{"box_2d": [[2, 1, 4, 3], null, [6, 5, 8, 7]], "label": "a"}',
            [("a", (1, 2, 3, 4)), ("a", (5, 6, 7, 8))],
        ),
        (
            '{"box_2d": [["2", "1", "4", "3"], ["6", "5", "8", "7"]]}',
            [(None, (1, 2, 3, 4)), (None, (5, 6, 7, 8))],
        ),
        ("box_2d: [[2, 1, 4, 3; 6, 5, 8, 7]]", [(None, (1, 2, 3, 4)), (None, (5, 6, 7, 8))]),
        ("box_2d: 2, 1, 4, 3", [(None, (1, 2, 3, 4))]),
        (
            '[{"box_2d": [2, 1, 4, 3]}, {"bbox_2d": [5, 6, 7, 8]}] [1, 2, 3, 9]',
            [(None, (1, 2, 3, 4)), (None, (5, 6, 7, 8)), (None, (1, 2, 3, 9))],
        ),
        # Labels behind their boxes, line by line.
        (
            "[1, 2, 3, 4] cat\n[5, 6, 7, 8] dog\r\n\r\nThese two.",
            [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8))],
        ),
        (
            "[1, 2, 3, 4], label: cat\n[5, 6, 7, 8], label: dog",
            [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8))],
        ),
        ("Here:\n1. [1, 2, 3, 4]: cat", [("cat", (1, 2, 3, 4))]),
        ("1. [1, 2, 3, 4]\n2. [5, 6, 7, 8]", [(None, (1, 2, 3, 4)), (None, (5, 6, 7, 8))]),
        (
            "Cats:\n1. [1, 2, 3, 4]\n2. [5, 6, 7, 8]",
            [("Cats", (1, 2, 3, 4)), ("Cats", (5, 6, 7, 8))],
        ),
        ("[1, 2, 3, 4] is where it sits.", [(None, (1, 2, 3, 4))]),
        # Lists of labels, and labels with quotes or of no text.
        (
            '{"bbox_2d": [[1, 2, 3, 4], [5, 6, 7, 8]], "label": ["cat", "dog"]}',
            [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8))],
        ),
        ('{"bbox_2d": [1, 2, 3, 4], "label": ["cat"]}', [("cat", (1, 2, 3, 4))]),
        ('{"bbox_2d": [1, 2, 3, 4], "label": ["cat", "dog"]}', [(None, (1, 2, 3, 4))]),
        (
            '{"boxes": [\n [1, 2, 3, 4],\n [5, 6, 7, 8]\n], "labels": ["cat", "dog"]}',
            [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8))],
        ),
        (
            '{"boxes_2d": [null, [1, 2, 3, 4], [5, 6, 7, 8]], "labels": ["no", "cat", "dog"]}',
            [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8))],
        ),
        (
            r"""{'bbox_2d': [1, 2, 3, 4], 'label': 'it\'s "new"'}""",
            [('it\'s "new"', (1, 2, 3, 4))],
        ),
        ('{"bbox_2d": [1, 2, 3, 4], "label": ""}', [(None, (1, 2, 3, 4))]),
        (
            '{"bbox_2d": [1, 2, 3, 4], "label": "", "description": "cat"}',
            [("cat", (1, 2, 3, 4))],
        ),
        # Keys and labels are strings of JSON, also below several boxes.
        (r'{"\u72d7": [1, 2, 3, 4]}', [("狗", (1, 2, 3, 4))]),
        (r'{"M\u00fcller": {"bbox": [1, 2, 3, 4]}}', [("Müller", (1, 2, 3, 4))]),
        ("""{"it's": [1, 2, 3, 4]}""", [("it's", (1, 2, 3, 4))]),
        (r"""{'it\'s': [1, 2, 3, 4]}""", [("it's", (1, 2, 3, 4))]),
        (r'{"say \"hi\"": [[1, 2, 3, 4]]}', [('say "hi"', (1, 2, 3, 4))]),
        (
            r'{"boxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "label": "M\u00fcller, brown"}',
            [("Müller, brown", (1, 2, 3, 4)), ("Müller, brown", (5, 6, 7, 8))],
        ),
        (
            '[1, 2, 3, 4], label: "cat, black" [5, 6, 7, 8], label: "do',
            [("cat, black", (1, 2, 3, 4)), ("do", (5, 6, 7, 8))],
        ),
        # The label in a box's own object, not the key of the list around it.
        (
            '{"animals": [{"x": [1, 3], "y": [2, 4], "label": "cat"}]}',
            [("cat", (1, 2, 3, 4))],
        ),
        (
            '{"animals":[{"label": "cat", "center": [100, 200], "size": [20, 40]}]}',
            [("cat", (90, 180, 110, 220))],
        ),
        # A line below a heading may go on about it.
        ("**Cat**\n[1, 2, 3, 4] - on the left", [("Cat", (1, 2, 3, 4))]),
    ],
)
def test_each_box_has_its_own_label_and_order(text, boxes):
    grounding = parse_grounding(text)
    assert [(box.label, box.thousandths) for box in grounding.boxes] == boxes
    assert grounding.rejected == ()
