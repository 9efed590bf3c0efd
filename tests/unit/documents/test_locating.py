"""Where cited statements are on their page: by a box from the model, and by reading its lines."""

import pytest
from drawn_pages import draw_page, scripted
from langchain_core.documents import Document
from langchain_core.messages import AIMessage

from langchain_internvl.documents import answer_with_citations, locating
from langchain_internvl.documents.locating import locate_by_boxes, locate_by_reading
from langchain_internvl.documents.text_lines import find_lines
from langchain_internvl.errors import EngineBusyError, RequestError

TEXTS = ["Lease of the house", "The rent is 900 EUR", "and is paid before the", "third day of May"]
PAGE = draw_page(*TEXTS, size=(448, 300))
BOXES = find_lines(PAGE)


def drive(script, reply):
    """The result of a script whose requests are answered by a function of their number."""
    asked = []
    step = next(script)
    while True:
        replies = []
        for messages in step.inputs:
            asked.append(messages)
            said = reply(len(asked) - 1)
            replies.append(said if isinstance(said, Exception) else AIMessage(said))
        try:
            step = script.send(replies)
        except StopIteration as ended:
            return ended.value, asked


def read(statements, reply=TEXTS.__getitem__, metadata=None, page=PAGE):
    return drive(locate_by_reading(page, statements, metadata or {}), reply)


def pixels(located):
    return [box.pixels for box in located.boxes]


def around(*boxes):
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def test_a_statement_has_the_box_of_its_line():
    assert len(BOXES) == len(TEXTS)
    located, asked = read(["The rent is 900 EUR"])
    assert pixels(located) == [BOXES[1]]
    assert (located.boxes[0].label, located.boxes[0].size) == ("The rent is 900 EUR", PAGE.size)
    assert located.unlocated == ()
    assert len(asked) == 4
    image = asked[0][0].content[0]
    assert (image["image"].size, image["max_tiles"]) == ((448, 448), 1)


def test_lines_that_follow_each_other_have_one_box():
    located, _ = read(["paid before the third day", "lease of the house"])
    assert pixels(located) == [around(*BOXES[2:]), BOXES[0]]


def test_a_statement_that_no_line_says_has_no_box_and_is_reported():
    located, _ = read(["The moon is full", "The rent is 900 EUR"])
    assert pixels(located) == [BOXES[1]]
    assert located.unlocated == (
        "'The moon is full': none of the 4 lines that were read says it",
    )  # fmt: skip
    blank = draw_page(size=(448, 300))
    script = locate_by_reading(blank, ["The rent"], {})
    with pytest.raises(StopIteration) as ended:
        next(script)
    assert ended.value.value.unlocated == ("'The rent': the page has no lines of text",)


def test_a_line_that_fails_leaves_out_itself():
    def reply(number):
        return EngineBusyError("busy") if number == 0 else TEXTS[number]

    located, _ = read(["The rent is 900 EUR", "lease of the house"], reply)
    assert pixels(located) == [BOXES[1]]
    assert "1 of 4 lines could not be read (busy" in located.unlocated[0]
    located, _ = read(["The rent"], lambda number: EngineBusyError("busy"))
    assert (located.boxes, len(located.unlocated)) == ((), 1)


def test_a_repetition_loop_is_cut():
    located, _ = read(["The rent is 900 EUR"], lambda number: TEXTS[number] + "\n" + "ab " * 60)
    assert pixels(located) == [BOXES[1]]


def test_batches_end_when_all_is_found_and_at_a_limit(monkeypatch):
    monkeypatch.setattr(locating, "_AT_ONCE", 2)
    _, asked = read(["The rent is 900 EUR"])
    assert len(asked) == 2
    _, asked = read(["paid before the third day"])
    assert len(asked) == 4
    monkeypatch.setattr(locating, "MOST_LINES", 3)
    located, asked = read(["The third day of May"])
    assert len(asked) == 3
    assert "of 4 lines the first 3 are read" in located.unlocated[0]


def test_regions_of_the_loader_take_no_request():
    elements = [
        {"label": "The rent is 900 EUR", "box": [100, 200, 600, 300]},
        {"label": "table", "box": [100, 400, 600, 500], "brief": "Prices of copper kettles"},
    ]
    script = locate_by_reading(PAGE, ["the rent is 900 eur"], {"elements": elements})
    with pytest.raises(StopIteration) as ended:
        next(script)
    assert [box.thousandths for box in ended.value.value.boxes] == [(100, 200, 600, 300)]
    located, asked = read(["The third day of May", "prices of copper kettles"],
                          metadata={"elements": elements})  # fmt: skip
    assert pixels(located) == [BOXES[3], (45, 120, 269, 150)]
    assert len(asked) == 4


def test_regions_of_a_skewed_page_are_turned_back():
    element = {"label": "The rent is 900 EUR", "box": [100, 450, 900, 550]}
    metadata = {"elements": [element], "skew": 5.0}
    with pytest.raises(StopIteration) as ended:
        next(locate_by_reading(PAGE, ["The rent is 900 EUR"], metadata))
    left, top, right, bottom = ended.value.value.boxes[0].thousandths
    assert 60 < left < 140
    assert 860 < right < 940
    assert bottom - top > 180  # as its line rises by 31 of 300 pixels


def test_a_box_of_the_model_that_fails_leaves_out_its_statement():
    def reply(number):
        box = "<ref>b</ref><box>[[100, 100, 500, 300]]</box>"
        return [EngineBusyError("busy"), box, "I do not see it"][number]

    located, asked = drive(locate_by_boxes(PAGE, ["a", "b", "c"]), reply)
    assert [box.thousandths for box in located.boxes] == [(100, 100, 500, 300)]
    assert located.unlocated[0].startswith("'a': ")
    assert located.unlocated[1] == "'c': the model named no box"
    assert len(asked) == 3


DOCUMENT = Document(page_content="\n".join(TEXTS), metadata={"page_id": "a-0"})


def chain(reply, **settings):
    llm, backend = scripted(reply)
    made = answer_with_citations(
        llm, lambda question: [DOCUMENT], page_image=lambda page: PAGE, **settings
    )
    return made, llm, backend


async def test_answers_are_located_by_reading_sync_and_async():
    def reply(request):
        is_answer = "Question:" in llm.get_text(request.prompt_ids)
        return "The rent is 900 EUR [1]." if is_answer else next(said)

    made, llm, _ = chain(reply, ground="reading")
    said = iter(["The rent is 900 EUR"] * 4)
    answer = made.invoke("What is the rent?")
    said = iter(["The rent is 900 EUR"] * 4)
    assert [page.boxes for page in (await made.ainvoke("What is the rent?")).pages] == [
        page.boxes for page in answer.pages
    ]
    assert pixels(answer.pages[0]) == [BOXES[0]]  # of equal lines the first
    assert answer.pages[0].image.tobytes() != PAGE.tobytes()
    assert answer.pages[0].unlocated == ()


def test_an_answer_stays_when_nothing_can_be_located():
    def reply(request):
        if "Question:" in llm.get_text(request.prompt_ids):
            return "The rent is 900 EUR [1]."
        raise EngineBusyError("busy")

    for ground in ("reading", "boxes", True):
        made, llm, _ = chain(reply, ground=ground)
        answer = made.invoke("What is the rent?")
        assert answer.text == "The rent is 900 EUR."
        assert (answer.pages[0].boxes, len(answer.pages[0].unlocated)) == ((), 1)


async def test_another_model_may_locate():
    reader, backend = scripted(lambda request: "The rent is 900 EUR")
    made, _, answering = chain(lambda request: "The rent is 900 EUR [1].", ground="reading",
                               ground_llm=reader)  # fmt: skip
    for answer in (made.invoke("What is the rent?"), await made.ainvoke("What is the rent?")):
        assert pixels(answer.pages[0]) == [BOXES[0]]
    assert (len(answering.requests), len(backend.requests)) == (2, 8)


def test_unknown_ways_are_refused():
    with pytest.raises(RequestError, match="'boxes' or 'reading', not 'box'"):
        chain([], ground="box")


def test_reading_goes_on_at_lines_that_are_alike():
    texts = [f"Payment of instalment {n:02} was received on 2024-05-15" for n in range(1, 60)]
    page = draw_page(*texts, size=(900, 2400), font=24)
    boxes = find_lines(page)
    assert len(boxes) == 59
    located, asked = read([texts[44]], texts.__getitem__, page=page)
    assert (pixels(located), located.unlocated) == ([boxes[44]], ())
    assert len(asked) == 59
    located, asked = read([texts[3]], texts.__getitem__, page=page)
    assert (pixels(located), len(asked)) == ([boxes[3]], 32)


def test_a_dead_model_is_asked_for_one_batch(monkeypatch):
    monkeypatch.setattr(locating, "_AT_ONCE", 2)
    located, asked = read(["The rent"], lambda number: EngineBusyError("busy"))
    assert len(asked) == 2
    assert "2 of 4 lines could not be read (busy" in located.unlocated[0]


def test_a_region_that_is_alike_is_taken_if_no_line_is():
    brief = {"label": "text", "brief": "monthly rent, heating and water", "box": [0, 0, 900, 90]}
    statement = "The heating is included in the monthly rent"
    said = ["Lease", statement, "and water", "in May"]
    located, _ = read([statement], said.__getitem__, {"elements": [brief]})
    assert pixels(located) == [BOXES[1]]
    located, _ = read([statement], metadata={"elements": [brief]})
    assert located.boxes == ()
    alike = {**brief, "brief": "The heating is included in monthly rent"}
    located, asked = read([statement], metadata={"elements": [brief, alike]})
    assert ([box.thousandths for box in located.boxes], len(asked)) == ([(0, 0, 900, 90)], 4)


@pytest.mark.parametrize(
    "elements",
    ["[{'label': 'The rent is 900 EUR', 'box': [0, 0, 9, 9]}]", 7, ["x"], [{"label": "The rent"}],
     [{"label": 5, "box": [0, 0, 9, 9]}], [{"label": "x", "box": [0, None, 9, 9]}],
     [{"label": "x", "box": "1234"}], [{"box": ["a", "b", "c", "d"]}]],
)  # fmt: skip
def test_metadata_of_vector_stores(elements):
    located, _ = read(["The rent is 900 EUR"], metadata={"elements": elements, "skew": "flat"})
    assert pixels(located) == [BOXES[1]]


def test_statements_have_no_markup_in_questions():
    _, asked = drive(locate_by_boxes(PAGE, ["<ref>a</ref><box>[[1]]</box> is < {} b"]),
                     lambda number: "no")  # fmt: skip
    question = asked[0][0].content[-1]["text"]
    assert question.endswith("<ref>a [[1]] is < {} b</ref>")
