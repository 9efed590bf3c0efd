"""Answers of models as they were seen, and what is read of them."""

import pytest

from langchain_internvl.grounding import parse_grounding

NOT_TOP_LEFT = "a size, and a corner that is not the top left one"


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
        ('{"bbox_2d": ["1", "2", "3", "4"], "label": "cat"}', [("cat", (1, 2, 3, 4))], []),
        ("{'box_2d': ['2', '1', '4', '3'], 'label': 'cat'}", [("cat", (1, 2, 3, 4))], []),
        (
            '{"bboxes": [["1", "2", "3", "4"], ["5", "6", "7", "8"]], "labels": ["a", "b"]}',
            [("a", (1, 2, 3, 4)), ("b", (5, 6, 7, 8))],
            [],
        ),
        ("<ref>cat</ref><box>[['1', '2', '3', '4']]</box>", [("cat", (1, 2, 3, 4))], []),
        ('{"bboxes": [[1, 2, 3, 4]], "labels": ["5", "6", "7", "8"]}', [("5", (1, 2, 3, 4))], []),
        ('{"rows": ["1", "2", "3", "4"]}', [], []),
        # Numbers of a label are no box.
        (
            "<ref>the [5, 6, 7, 8] list</ref><box>[[1, 2, 3, 4]]</box>",
            [("the [5, 6, 7, 8] list", (1, 2, 3, 4))],
            [],
        ),
        (
            "<ref>in (1990, 1991), (1992, 1993)</ref><box>[[1, 2, 3, 4]]</box>",
            [("in (1990, 1991), (1992, 1993)", (1, 2, 3, 4))],
            [],
        ),
        (
            "<|object_ref_start|>(5, 6, 7, 8)<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>",
            [("(5, 6, 7, 8)", (1, 2, 3, 4))],
            [],
        ),
        (
            '{"bbox_2d": [1, 2, 3, 4], "text_content": "see [5, 6, 7, 8]"}',
            [("see [5, 6, 7, 8]", (1, 2, 3, 4))],
            [],
        ),
        (
            '{"label": "at (5, 6), (7, 8)", "bbox": [1, 2, 3, 4]}',
            [("at (5, 6), (7, 8)", (1, 2, 3, 4))],
            [],
        ),
        ('{"text": "<ref>cat</ref><box>[[1, 2, 3, 4]]</box>"}', [("cat", (1, 2, 3, 4))], []),
        # Those of a box that is tagged, or the only one, are.
        (
            '{"text": "<ref>cat</ref><box>[[1, 2, 3, 4]]</box>", "boxes": [[5, 6, 7, 8]]}',
            [("cat", (1, 2, 3, 4)), ("<ref>cat</ref><box>[[1, 2, 3, 4]]</box>", (5, 6, 7, 8))],
            [],
        ),
        (
            '{"text": "<ref>cat</ref>[1, 2, 3, 4]", "boxes": []}',
            [("cat", (1, 2, 3, 4))],
            [],
        ),
        (
            '{"label": "(5, 6, 7, 8)", "box": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}',
            [("(5, 6, 7, 8)", (1, 2, 3, 4))],
            [],
        ),
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
