"""Boxes out of answers, in every form that models write them."""

import json

import pytest
from box_strategies import boxes
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl import parse_boxes
from langchain_internvl.grounding import Box, parse_grounding

NAMES = ("cat", "the red circle", "sign 3")


def numbers(box, space):
    corners = box.corners(space)
    if space == "unit":
        return [f"{value:.5f}" for value in corners]
    return [str(round(value)) for value in corners]


FORMS = {
    "tags": lambda n, label: f"<ref>{label}</ref><box>[[{', '.join(n)}]]</box>",
    "stripped": lambda n, label: f"{label}[[{', '.join(n)}]]",
    "plain": lambda n, label: f"{label}: [{','.join(n)}]",
    "json": lambda n, label: f'{{"bbox_2d": [{", ".join(n)}], "label": {json.dumps(label)}}}',
    "corners": lambda n, label: f"<ref>{label}</ref><box>({n[0]},{n[1]}),({n[2]},{n[3]})</box>",
    "pairs": lambda n, label: f"{label}: [[{n[0]}, {n[1]}], [{n[2]}, {n[3]}]]",
    "bare": lambda n, label: f"<ref>{label}</ref><box>{', '.join(n)}</box>",
    "spaces": lambda n, label: f"<ref>{label}</ref><box>{' '.join(n)}</box>",
    "spaces in brackets": lambda n, label: f"<ref>{label}</ref><box>[[{' '.join(n)}]]</box>",
    "semicolons": lambda n, label: f"{label}: [{'; '.join(n)}]",
    "qwen2": lambda n, label: (
        f"<|object_ref_start|>{label}<|object_ref_end|>"
        f"<|box_start|>({n[0]},{n[1]}),({n[2]},{n[3]})<|box_end|>"
    ),
    "label as key": lambda n, label: f'{{"{label}": [{", ".join(n)}]}}',
    "x1": lambda n, label: (
        f'{{"label": "{label}", "x1": {n[0]}, "y1": {n[1]}, "x2": {n[2]}, "y2": {n[3]}}}'
    ),
    "x_min": lambda n, label: (
        f'{{"x_min": "{n[0]}", "y_min": "{n[1]}", "x_max": "{n[2]}", "y_max": "{n[3]}", '
        f'"label": "{label}"}}'
    ),
    "ymin": lambda n, label: (
        f"{{'ymin': {n[1]}, 'xmin': {n[0]}, 'ymax': {n[3]}, 'xmax': {n[2]}, 'name': '{label}'}}"
    ),
    "left": lambda n, label: (
        f'{{"left": {n[0]}, "top": {n[1]}, "label": "{label}", "right": {n[2]}, "bottom": {n[3]}}}'
    ),
    "bbox": lambda n, label: (
        f'{{"bbox": {{"x1": {n[0]}, "y1": {n[1]}, "x2": {n[2]}, "y2": {n[3]}}}, '
        f'"label": "{label}"}}'
    ),
    "bounding box": lambda n, label: (
        f'{{"object": "{label}", "bounding_box": [{n[0]}, {n[1]}, {n[2]}, {n[3]}]}}'
    ),
    "corners by name": lambda n, label: (
        f'{{"label": "{label}", "top_left": [{n[0]}, {n[1]}], "bottom_right": [{n[2]}, {n[3]}]}}'
    ),
    "corners as objects": lambda n, label: (
        f'{{"label": "{label}", "topLeft": {{"x": {n[0]}, "y": {n[1]}}}, '
        f'"bottomRight": {{"x": {n[2]}, "y": {n[3]}}}}}'
    ),
    "words": lambda n, label: f"{label}: x1={n[0]}, y1={n[1]}, x2={n[2]}, y2={n[3]}",
    "counted from 0": lambda n, label: (
        f'{{"{label}": {{"x0": {n[0]}, "y0": {n[1]}, "x1": {n[2]}, "y1": {n[3]}}}}}'
    ),
    "from to": lambda n, label: f"{label}: ({n[0]}, {n[1]}) to ({n[2]}, {n[3]})",
    "table of boxes": lambda n, label: (
        f"| Object | Bounding box [x1, y1, x2, y2] |\n|---|---|\n| {label} | [{', '.join(n)}] |"
    ),
    "table of boxes in another order": lambda n, label: (
        "| (ymin, xmin, ymax, xmax) | **Object** |\n|:---|---:|\n"
        f"| `[{n[1]}, {n[0]}, {n[3]}, {n[2]}]` | **{label}** |\n"
    ),
    "table of boxes without brackets": lambda n, label: (
        f"No. | bbox | Label\n--- | --- | ---\n1 | {', '.join(n)} | {label}\n\nThat is all."
    ),
    "table of numbers": lambda n, label: (
        "| # | Element | x1 (px) | y1 | x2 | y2 |\n|--|--|--:|--:|--:|--:|\n"
        f"| 1 | {label} | {n[0]} | {n[1]} | {n[2]} | {n[3]} |"
    ),
    "table of sides": lambda n, label: (
        "Here:\n> | Right | Top | Left | Bottom | What | Score |\n> |-|-|-|-|-|-|\n"
        f"> | {n[2]} | {n[1]} | `{n[0]}` | {n[3]} | {label} | 0.9 |"
    ),
    "table of corners": lambda n, label: (
        "| Name | Top-left | Bottom-right |\n| --- | --- | --- |\n"
        f"| {label} | ({n[0]}, {n[1]}) | {n[2]}, {n[3]} |"
    ),
    "table of regions": lambda n, label: (
        f"| Item | Region |\n|---|---|\n| {label} | {', '.join(n)} |"
    ),
    "table in a fence": lambda n, label: (
        f"```markdown\n| Object | Box |\n|---|---|\n| {label} | [{', '.join(n)}] |\n```"
    ),
    "rows without a header": lambda n, label: f"| {label} | [{', '.join(n)}] |",
}


@pytest.mark.parametrize(
    "reply",
    ["```\n1, 2, 300, 400\n```", "`1, 2, 300, 400`", "~~~text\n1 2 300 400\n~~~\n",
     "```json\n[1, 2, 300, 400]\n```", "```xml\n<box>1 2 300 400</box>\n```",
     "```python\n[[1, 2, 300, 400]]\n```", "**1, 2, 300, 400**"],
)  # fmt: skip
def test_numbers_in_code_are_a_box_without_a_label(reply):
    (box,) = parse_boxes(reply)
    assert (box.label, box.thousandths) == (None, (1, 2, 300, 400))


OBJECTS = {
    "bbox_2d": [{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"label": "b", "bbox_2d": [5, 6, 7, 8]}],
    "box_2d": {"box_2d": [[2, 1, 4, 3], [6, 5, 8, 7]], "label": ["a", "b"]},
    "quoted": [
        {"bbox_2d": ["1", "2", "3", "4"], "label": "a"},
        {"bbox": "5, 6, 7, 8", "label": "b"},
    ],
    "named": [
        {"label": "a", "x1": 1, "y1": 2, "x2": 3, "y2": 4},
        {"bbox": {"x1": "5", "y1": "6", "x2": "7", "y2": "8"}, "label": "b"},
    ],
    "lists": {"bboxes": [[1, 2, 3, 4], None, [5, 6, 7, 8]], "labels": ["a", "no", "b"]},
    "points": [
        {"label": "a", "top_left": [1, 2], "bottom_right": [3, 4]},
        {"label": "b", "topLeft": {"x": 5, "y": 6}, "bottomRight": {"x": 7, "y": 8}},
    ],
    "ranges and sizes": [
        {"x": [1, 3], "y": [2, 4], "label": "a"},
        {"label": "b", "center": [6, 7], "size": [2, 2]},
    ],
    "keys": {"a": [1, 2, 3, 4], "b": [[5, 6], [7, 8]]},
}


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("indent", [None, 1, 2, 4, 8, 200, "\t"])
@pytest.mark.parametrize("form", OBJECTS)
def test_json_is_read_at_any_indentation(form, indent, end):
    reply = json.dumps({"data": [{"result": OBJECTS[form]}]}, indent=indent)
    grounding = parse_grounding(f"```json\n{reply}\n```".replace("\n", end))
    assert [(box.label, box.thousandths) for box in grounding.boxes] == [
        ("a", (1, 2, 3, 4)),
        ("b", (5, 6, 7, 8)),
    ]
    assert grounding.rejected == ()


@pytest.mark.parametrize("wrong", [{"bbox_2d": [1, 2, 3]}, {"bbox_2d": []}, {"bbox": ["x1", "y1"]}])
@pytest.mark.parametrize("indent", [None, 4, 40])
def test_what_is_no_box_is_said_at_any_indentation(wrong, indent):
    reply = json.dumps({"data": {"result": [wrong]}}, indent=indent).replace('"x1"', "x1")
    grounding = parse_grounding(reply.replace('"y1"', "y1"))
    assert (grounding.boxes, len(grounding.rejected)) == ((), 1)


@pytest.mark.parametrize(
    "reply",
    [
        "[1,            2,            3,            4]",
        "x1:            1\ny1:            2\nx2:            3\ny2:            4",
        "<|begin_of_box|>1, 2, 3, 4<|end_of_box|>",
        '{"bbox_2d"           :           [1, 2, 3, 4]}',
        "top-left (1, 2)            ,            bottom-right (3, 4)",
    ],
)
def test_numbers_may_stand_far_apart(reply):
    (box,) = parse_boxes(reply)
    assert box.thousandths == (1, 2, 3, 4)


def test_indentation_in_a_label_stays():
    label = "one" + "\n            " + "two"
    (box,) = parse_boxes(f"<ref>{label}</ref>\n            <box>\n            [[1, 2, 3, 4]]</box>")
    assert (box.label, box.thousandths) == (label, (1, 2, 3, 4))


def test_the_confidence_is_that_of_the_place_in_the_reply():
    reply = json.dumps([{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}], indent=20)
    read = []
    parse_grounding(reply, confidence=lambda start, end: read.append(reply[start:end]))
    assert [json.loads(one) for one in read] == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_names_of_places_are_no_boxes():
    reply = "| Location | Box |\n|---|---|\n| Room 1 | 1, 2, 300, 400 |"
    (box,) = parse_boxes(reply)
    assert (box.label, box.thousandths) == ("Room 1", (1, 2, 300, 400))


@pytest.mark.parametrize("form", FORMS)
@given(boxes(), st.sampled_from(NAMES), st.sampled_from(["norm1000", "unit", "pixel"]))
def test_any_box_printed_in_any_form_comes_back(form, box, label, space):
    if space == "pixel" and min(box.size) < 1000:
        box = box.model_copy(update={"size": (1000 + box.size[0], 1000 + box.size[1])})
    text = FORMS[form](numbers(box, space), label)
    grounding = parse_grounding(text, box.size, space)
    assert grounding.rejected == ()
    (back,) = grounding.boxes
    assert back.label == label
    assert back.size == box.size
    assert back.corners("norm1000") == pytest.approx(box.corners("norm1000"), abs=0.51)


@given(st.lists(st.tuples(boxes(), st.sampled_from(NAMES)), min_size=1, max_size=6))
def test_several_come_back_in_their_order(pairs):
    joined = (
        (" and ", "tags"), ("\n", "plain"), (", ", "json"), (",\n", "x1"), (", ", "bbox"),
        ("", "qwen2"), ("", "spaces"), (", ", "corners as objects"),
    )  # fmt: skip
    for join, form in joined:
        text = join.join(FORMS[form](numbers(box, "norm1000"), label) for box, label in pairs)
        found = parse_boxes(text)
        assert [box.label for box in found] == [label for _, label in pairs]
        assert [box.thousandths for box in found] == [box.thousandths for box, _ in pairs]


@given(boxes(), st.sampled_from(NAMES))
def test_what_a_box_writes_of_itself_is_read_back(box, label):
    box = box.model_copy(update={"label": label})
    assert parse_boxes(box.markup(), box.size) == [box]


@given(st.text(alphabet="[](){}<>,.-0123456789xy_ \n\"':refboxcat/", max_size=300))
def test_no_text_breaks_it(text):
    for box in parse_grounding(text).boxes:
        assert 0 <= box.x1 < box.x2 <= 1000


def test_what_was_mended_is_said():
    (swapped,) = parse_boxes("[[300, 400, 100, 200]]")
    assert (swapped.thousandths, swapped.repairs) == (
        (100, 200, 300, 400),
        ("corners were swapped",),
    )
    (cut,) = parse_boxes("[[-5, 0, 1200, 20]]")
    assert cut.thousandths == (0, 0, 1000, 20)
    assert "cut off at its edge" in cut.repairs[0]
    (share,) = parse_boxes("[0.1, 0.2, 0.5, 1.0]")
    assert (share.thousandths, share.repairs) == (
        (100, 200, 500, 1000),
        ("read as shares of 1, not as thousandths",),
    )
    (over,) = parse_boxes("[0.10, 0.20, 1.05, 0.90]")
    assert over.thousandths == (100, 200, 1000, 900)
    assert len(over.repairs) == 2
    assert parse_boxes("[1, 2, 3, 4]")[0].repairs == ()


@pytest.mark.parametrize(
    ("text", "corners", "repair"),
    [
        ('{"x": 10, "y": 20, "width": 30, "height": 40}', (10, 20, 40, 60), "left, top, width"),
        ('{"left": 10, "top": 20, "width": 30, "height": 40}', (10, 20, 40, 60), "left, top"),
        ('{"cx": 100, "cy": 200, "w": 20, "h": 40}', (90, 180, 110, 220), "middle, width"),
        ('{"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}', (100, 200, 400, 600), "left, top, width"),
        ('{"box_2d": [20, 10, 60, 40]}', (10, 20, 40, 60), "top, left, bottom, right"),
        ("Its center is at (100, 200), size (20, 40)", (90, 180, 110, 220), "middle, width"),
    ],
)
def test_other_conventions_are_read_and_said(text, corners, repair):
    (box,) = parse_boxes(text)
    assert box.thousandths == corners
    assert any(repair in one for one in box.repairs)


def test_pixels_are_of_the_picture_that_is_named():
    (box,) = parse_boxes("cat[[10, 20, 30, 40]]", size=(100, 80), space="pixel")
    assert (box.thousandths, box.pixels) == ((100, 250, 300, 500), (10, 20, 30, 40))
    with pytest.raises(ValueError, match="size="):
        parse_boxes("cat[[10, 20, 30, 40]]", space="pixel")
    with pytest.raises(ValueError, match="space is"):
        parse_boxes("", space="percent")


def test_code_in_an_answer_is_text():
    assert parse_boxes("[__import__('os').getpid(), 1, 2, 3]") == []


@pytest.mark.parametrize(
    "piece",
    [
        "[", "[1,", "<ref>", "{", "[x1", "(1,2),", "cat ", '"label": "', "<box>", '{"x1": 1, ',
        '"x1": 1, "y1": ', "1 ", '{"x": 1, "y": 2},', "}{", '{"x1":1,"y1":2,"x2":3,"y2":4,',
        "<|box_start|>", "x1=", '"a":"b",', "<loc1>",
        "<p>", "<ref>a", "1,2,3,4;", "[1,2,3,4;", "size: [1, 2]", "center", "<x1>1</x1>", "**",
        '":"', '"labels": ["', "右下角", "<think>", "&lt;box&gt;", "{<1><2>",
        '"labels":["a"],"b":[1,2,3,4],{',
        '{"label":["a"],"bbox":[1,2,3,4],', '{"label":["a","b"],"boxes":[[1,2,3,4],', '"box_2d": [',
        '"box_2d": [[1,2,3,4],', "[" + " " * 98, '"a":' + " " * 98, "\n" + " " * 30,
        "[1" + "\t" * 98,
        "1" + " " * 98, "\n[1,2,3,4]: a", "null, [", '"boxes": [null, ', "\\'", "'label': 'it\\'",
    ],
)  # fmt: skip
def test_long_nonsense_is_read_in_linear_steps(piece):
    """A pattern that backtracks would not end."""
    text = piece * (300_000 // len(piece))
    grounding = parse_grounding(text)
    assert grounding.rejected[0].startswith("what follows after 200000 characters")
    assert all(isinstance(box, Box) for box in grounding.boxes)
