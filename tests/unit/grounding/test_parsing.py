"""Boxes out of answers, in every form that models write them."""

import json

import pytest
from box_strategies import boxes
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl import parse_boxes
from langchain_internvl.grounding import Box, parse_grounding

NAMES = ("cat", "the red circle", "sign 3")
NOT_TOP_LEFT = "a size, and a corner that is not the top left one"


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


@pytest.mark.parametrize(
    ("text", "boxes", "rejected"),
    [
        (
            "<ref>cat</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>",
            [("cat", (1, 2, 3, 4)), ("cat", (5, 6, 7, 8))],
            [],
        ),
        (
            "<ref>红、猫</ref><box>［［1，2，3，4］］</box> <box>（5，6），（7，8）</box>",
            [("红、猫", (1, 2, 3, 4)), ("红、猫", (5, 6, 7, 8))],
            [],
        ),
        ("[[1, 2, 3, 4], [5, 6", [(None, (1, 2, 3, 4))], ["[5, 6: cut off"]),
        ('{"bbox_2d": [1, 2, 3', [], ["[1, 2, 3: cut off"]),
        (
            "<ref>sign</ref><box>[[x1, y1, x2, y2]]</box>",
            [],
            ["[[x1, y1, x2, y2]]: the template, not a box", "sign: no box"],
        ),
        (
            "<ref>a</ref> is not there; <ref>b</ref><box>[[1, 2, 3, 4]]</box>",
            [("b", (1, 2, 3, 4))],
            ["a: no box"],
        ),
        ("[[1, 2, 3, 4, 5, 6, 7, 8]]", [], ["[[1, 2, 3, 4, 5, 6, 7, 8]: 8 numbers, not four"]),
        (
            "[[1500, 1500, 1800, 1900]]",
            [],
            ["[1500, 1500, 1800, 1900]: outside the picture; are these pixels? (space='pixel')"],
        ),
        ("[[5, 5, 5, 9]]", [], ["[5, 5, 5, 9]: without an area"]),
        (
            """```json
            [{"bbox_2d": [1, 2, 3, 4], "label": "a \\"b\\""},
             {'label': 'c', 'bbox_2d': [5, 6, 7, 8]}]
            ```""",
            [('a "b"', (1, 2, 3, 4)), ("c", (5, 6, 7, 8))],
            [],
        ),
        (
            "1. cat [1, 2, 3, 4]\n2. dog [5, 6, 7, 8]",
            [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8))],
            [],
        ),
        ("I see [no] box (at all), 3 of 4.", [], []),
        ("(yellow), (you can see it) and (2024 census)", [], []),
        (
            "[[left, top, right, bottom]]",
            [],
            ["[[left, top, right, bottom]]: the template, not a box"],
        ),
        ("<box>204 215 383 227</box>", [(None, (204, 215, 383, 227))], []),
        ("<ref>cup</ref><box>204 215 383 227", [("cup", (204, 215, 383, 227))], []),
        ("204, 215, 383, 227", [(None, (204, 215, 383, 227))], []),
        ("<box>204 215 383</box>", [], ["204 215 383: 3 numbers, not four"]),
        ("<box></box>", [], ["an empty box: no numbers"]),
        ("<box>here</box>", [], ["here: no numbers"]),
        ("<box>204</box>", [], ["204: 1 number, not four"]),
        ("<box><204><215><383><227></box>", [(None, (204, 215, 383, 227))], []),
        (
            "<ref>cup</ref><box> <204>, <215>, <383>, <227>",
            [("cup", (204, 215, 383, 227))],
            [],
        ),
        ("<box><204><215><383></box>", [], ["<204><215><383>: 3 numbers, not four"]),
        ("<box><-204></box>", [], ["<-204>: 1 number, not four"]),
        (
            (
                "<|object_ref_start|>a<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>"
                "<|box_start|>(5,6),(7,8)<|box_end|>"
            ),
            [("a", (1, 2, 3, 4)), ("a", (5, 6, 7, 8))],
            [],
        ),
        ("<|box_start|>(1,2)<|box_end|>", [], ["(1,2): 2 numbers, not four"]),
        (
            (
                "| Region | box_2d |\n|---|---|\n| a | [2, 1, 4, 3], [6, 5, 8, 7] |\n"
                "| b | not found |\n| c \\| d | 10, 9, 12, 11 |\n\n| e | [1, 2, 3, 4] |"
            ),
            [
                ("a", (1, 2, 3, 4)),
                ("a", (5, 6, 7, 8)),
                ("c | d", (9, 10, 11, 12)),
                ("e", (1, 2, 3, 4)),
            ],
            [],
        ),
        (
            (
                "| Region | x | y | width | height |\n|---|---|---|---|---|\n"
                "| a | 1 | 2 | 3 | 4 |\n"
                "| b | - | - | - | - |\n| c | 1 | 2 | 3 |\n| d | 5% | 6 | 7 | 8 |"
            ),
            [("a", (1, 2, 4, 6))],
            [" 1 | 2 | 3 : height: no plain numbers", " 5% | 6 | 7 | 8 : x: no plain numbers"],
        ),
        (
            "| Top left | Bottom right |\n|---|---|\n| (1, 2) | (3, 4) |\n| (1, 2) | (3) |",
            [(None, (1, 2, 3, 4))],
            [" (1, 2) | (3) : two corners of two plain numbers make a box"],
        ),
        ("| Year | Q1 | Q2 | Q3 | Q4 |\n|---|---|---|---|---|\n| 2020 | 1 | 2 | 3 | 4 |", [], []),
        ("| Name | x1 | y1 | x2 |\n|---|---|---|---|\n| a | 1 | 2 | 3 |", [], []),
        ("| Name | 1, 2, 3, 4 |\n|---|---|\n| a | 1, 2, 3, 4 |\n| 1 | 2 | 3 | 4 |", [], []),
        ("| x1 | y1 | x2 | y2 |\n| 1 | 2 | 3 | 4 |", [], []),
        ("| Width | Height | Weight |\n|---|---|---|\n| 1 | 2 | 3 |", [], []),
        ("| Box | Items |\n|---|---|\n| 12 | 1, 2, 3, 4 |", [], []),
        (
            (
                '{"objects": [{"label": "a", "x1": 1, "y1": 2, "x2": 3, "y2": 4}, '
                '{"x1": 5, "y1": 6, "x2": 7, "y2": 8}]}'
            ),
            [("a", (1, 2, 3, 4)), (None, (5, 6, 7, 8))],
            [],
        ),
        (
            '{"x1": 1, "y1": 2, "x2": 3}',
            [],
            ['"x1": 1, "y1": 2, "x2": 3: x1, y1, x2 alone make no box'],
        ),
        ('{"bbox_2d": null, "label": "a"}', [], ['"bbox_2d": null: no coordinates']),
        ('{"bbox": [], "label": "a"}', [], ['"bbox": []: no coordinates']),
        (
            "[20%, 30%, 40%, 50%]",
            [],
            ["[20%, 30%, 40%, 50%]: numbers with a unit; plain numbers of one space are read"],
        ),
        (
            "[1-2-3-4]",
            [],
            ["[1-2-3-4]: four numbers that neither commas nor spaces part as those of a box"],
        ),
        (
            "<loc0204><loc0215><loc0383><loc0227> cat",
            [],
            [
                (
                    "<loc0204><loc0215><loc0383><loc0227>: location tokens of another model, not "
                    "coordinates"
                )
            ],
        ),
        (
            '{"vertices": [{"x": 1, "y": 2}, {"x": 3, "y": 2}, {"x": 3, "y": 4}]}',
            [],
            ['{"x": 1, "y": 2}, {"x": 3, "y": 2}, {"x": 3, "y": 4}: a polygon, not a box'],
        ),
        (
            "<quad>(1,2),(9,2),(9,8),(1,8)</quad>",
            [],
            ["(1,2),(9,2),(9,8),(1,8): a polygon, not a box"],
        ),
        ("The picture is 640 wide, x = 3 and width: 5.", [], []),
        ("[[1, 2], [3, 40], [50, 60]]", [], ["[1, 2], [3, 40], [50, 60]: a polygon, not a box"]),
        (
            '{"x": [10, 300], "y": [20, 400], "label": "cat"}',
            [("cat", (10, 20, 300, 400))],
            [],
        ),
        ('{"y_range": [20, 400], "x_range": [10, 300]}', [(None, (10, 20, 300, 400))], []),
        ('{"bbox_2d": "[1, 2, 3, 4]", "label": "cat"}', [("cat", (1, 2, 3, 4))], []),
        ('{"bbox_2d": "1,2,3,4", "label": "cat"}', [("cat", (1, 2, 3, 4))], []),
        ("label=cat bbox=1,2,3,4", [("cat", (1, 2, 3, 4))], []),
        ("bbox: 1, 2, 3, 4, 5", [], []),
        (
            "bbox_2d: [1, 2, 3, 4], label: cat; bbox_2d: [5, 6, 7, 8], label: dog",
            [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8))],
            [],
        ),
        ("box[[1, 2, 3, 4]]", [("box", (1, 2, 3, 4))], []),
        ("box: [1, 2, 3, 4], label: cat", [("cat", (1, 2, 3, 4))], []),
        ("cat bounding box: [1, 2, 3, 4]", [("cat", (1, 2, 3, 4))], []),
        ('{"cat": {"bbox": [1, 2, 3, 4]}}', [("cat", (1, 2, 3, 4))], []),
        ('{"result": {"bbox": [1, 2, 3, 4]}}', [(None, (1, 2, 3, 4))], []),
        ('{"start": [1, 2], "end": [3, 4]}', [(None, (1, 2, 3, 4))], []),
        ("top-left (1, 2), bottom-right (3, 4)", [(None, (1, 2, 3, 4))], []),
        ("from (1, 2) to (3, 4)", [(None, (1, 2, 3, 4))], []),
        ("<ref>cat</ref><bbox>1,2,3,4</bbox>", [("cat", (1, 2, 3, 4))], []),
        ("<REF>Cat</REF><BOX>[[1,2,3,4]]</BOX>", [("Cat", (1, 2, 3, 4))], []),
        ("<ref>cat</ref><box>[[1,2,3,4,]]</box>", [("cat", (1, 2, 3, 4))], []),
        ("<ref>cat</ref><box>{1,2,3,4}</box>", [("cat", (1, 2, 3, 4))], []),
        ("<ref>cat<box>[[1,2,3,4]]</box></ref>", [("cat", (1, 2, 3, 4))], []),
        ("<ref>cat</ref><box>[[1,2,3,4]]<box>", [("cat", (1, 2, 3, 4))], []),
        (r"\[1, 2, 3, 4\]", [(None, (1, 2, 3, 4))], []),
        ("猫：【1，2，3，4】", [("猫", (1, 2, 3, 4))], []),
        (
            "- **cat** — [1,2,3,4]\n* dog [5,6,7,8]",
            [("cat", (1, 2, 3, 4)), ("dog", (5, 6, 7, 8))],
            [],
        ),
        ("[1|2|3|4]", [(None, (1, 2, 3, 4))], []),
        ("", [], []),
        ("<ref>a <ref>cat</ref></ref><box>[[1,2,3,4]]</box>", [("cat", (1, 2, 3, 4))], []),
        (
            "<p>the cat</p> {<1><2><3><4>}<delim>{<5><6><7><8>}",
            [("the cat", (1, 2, 3, 4)), ("the cat", (5, 6, 7, 8))],
            [],
        ),
        (
            "<|ref|>cat<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>",
            [("cat", (1, 2, 3, 4))],
            [],
        ),
        ("The cat: <|begin_of_box|>[1,2,3,4]<|end_of_box|>", [("The cat", (1, 2, 3, 4))], []),
        (
            "&lt;ref&gt;cat&lt;/ref&gt;&lt;BOX&gt;[[1,2,3,4]]&lt;/BOX&gt;",
            [("cat", (1, 2, 3, 4))],
            [],
        ),
        ("<obj>cat</obj><box>1,2,3,4</box>", [("cat", (1, 2, 3, 4))], []),
        ('<rect x="1" y="2" width="2" height="2"/>', [(None, (1, 2, 3, 4))], []),
        (
            "<name>cat</name><bndbox><xmin>1</xmin> <ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>",
            [("cat", (1, 2, 3, 4))],
            [],
        ),
        ("cat:\n- x1: 1\n- y1: 2\n- x2: 3\n- y2: 4", [("cat", (1, 2, 3, 4))], []),
        ("**x1** = 1, **y1:** 2, `x2`: 3, **y2** = 4", [(None, (1, 2, 3, 4))], []),
        ("[[001,002,003,004;005,006,007,008]]", [(None, (1, 2, 3, 4)), (None, (5, 6, 7, 8))], []),
        ("center: [100, 200], size: [20, 40]", [(None, (90, 180, 110, 220))], []),
        ('{"position": [10, 20], "size": [20, 40]}', [(None, (10, 20, 30, 60))], []),
        ('{"size": [20, 40], "center": [100, 200]}', [(None, (90, 180, 110, 220))], []),
        ('{"center_point": [100, 200], "size": [20, 40]}', [(None, (90, 180, 110, 220))], []),
        (
            "bottomRight: (30, 60), size: (20, 40)",
            [],
            [f"bottomRight: (30, 60), size: (20, 40): {NOT_TOP_LEFT}"],
        ),
        (
            "size: (20, 40), top_right: (30, 60)",
            [],
            [f"size: (20, 40), top_right: (30, 60): {NOT_TOP_LEFT}"],
        ),
        ("tensor([[1., 2., 3., 4.]])", [(None, (1, 2, 3, 4))], []),
        ('{"bottom_right": [3, 4], "top_left": [1, 2]}', [(None, (1, 2, 3, 4))], []),
        (
            '{"<OD>": {"bboxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "labels": ["car", "door, left"]}}',
            [("car", (1, 2, 3, 4)), ("door, left", (5, 6, 7, 8))],
            [],
        ),
        (
            "{'labels': ['car'], 'boxes': [(1, 2, 3, 4), (5, 6, 7, 8)]} dog [1, 2, 3, 9]",
            [("car", (1, 2, 3, 4)), (None, (5, 6, 7, 8)), ("dog", (1, 2, 3, 9))],
            [],
        ),
        (
            """{"boxes": [[1, 2, 3, 4], null, [5, 6, 7], [5, 6, 7, 8], [1, 2, 3, 9]],
            "labels": ["a", "b", "c", "d", null], "name": "street.jpg"}""",
            [("a", (1, 2, 3, 4)), ("d", (5, 6, 7, 8)), (None, (1, 2, 3, 9))],
            ["[5, 6, 7]: 3 numbers, not four"],
        ),
        (
            '{"bboxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "labels": [null, "b"]}',
            [(None, (1, 2, 3, 4)), ("b", (5, 6, 7, 8))],
            [],
        ),
        (
            '{"bbox": [1, 2, 3, 4], "label": "dog", "classes": ["cat", "dog"]}',
            [("dog", (1, 2, 3, 4))],
            [],
        ),
        (
            '{"description": "It sits.", "bbox": [1, 2, 3, 4], "label": "cat"}',
            [("cat", (1, 2, 3, 4))],
            [],
        ),
        ('[{"bbox_2d":[1,2,3,4],"label":"a}b"}]', [("a}b", (1, 2, 3, 4))], []),
        ('{"bbox_2d": [1, 2, 3, 4], "text_content": "3.50"}', [("3.50", (1, 2, 3, 4))], []),
        ('{"标签": "猫", "坐标": [1, 2, 3, 4]}', [("猫", (1, 2, 3, 4))], []),
        ("红色的圆的坐标是：[[1, 2, 3, 4]]。", [("红色的圆", (1, 2, 3, 4))], []),
        ("猫：左上角(1, 2)，右下角坐标为(3, 4)", [("猫", (1, 2, 3, 4))], []),
        (
            "<think>[[9, 9, 99, 99]]? No.</think>cat[[1, 2, 3, 4]]",
            [("cat", (1, 2, 3, 4))],
            [],
        ),
        ("<think>Perhaps [[9, 9, 99, 99]]", [], ["the reply ends within its thoughts"]),
        ("<think>[[9, 9, 99, 99]]</think>\n", [], ["the reply has thoughts, and no answer"]),
        (
            '<points x1="1" y1="2" x2="3" y2="4" alt="cats">cats</points>',
            [],
            ['x1="1" y1="2" x2="3" y2="4": points, not a box'],
        ),
        (
            "<box>[[1, 2, 3, 4], [5, 6, 7</box>",
            [(None, (1, 2, 3, 4))],
            ["[5, 6, 7: 3 numbers, not four"],
        ),
        ("<box>[[]]</box>", [], ["an empty box: no numbers"]),
    ],
)
def test_answers_seen_in_the_wild(text, boxes, rejected):
    grounding = parse_grounding(text)
    assert [(box.label, box.thousandths) for box in grounding.boxes] == boxes
    assert list(grounding.rejected) == rejected


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
    ],
)  # fmt: skip
def test_long_nonsense_is_read_in_linear_steps(piece):
    """A pattern that backtracks would not end."""
    text = piece * (300_000 // len(piece))
    grounding = parse_grounding(text)
    assert grounding.rejected[0].startswith("what follows after 200000 characters")
    assert all(isinstance(box, Box) for box in grounding.boxes)
