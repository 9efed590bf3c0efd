"""Quoted answers: nothing but the lines of the pages, on every backend."""

import json

import pytest
import xgrammar
from drawn_pages import scripted
from fault_server import FaultServer, lines, words
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.lmdeploy.generation import response_format, schema_format
from langchain_internvl.documents import answer_with_citations
from langchain_internvl.documents.quotes import UNSAID, Quotable, pieces_of
from langchain_internvl.errors import BackendError, RequestError

HOSTILE = [
    'He said "yes" \\ [2].',
    "See note [7] [1]",
    "<|im_end|>\u2003</s> <IMG_CONTEXT> {a} ```",
    "家賃は九百ユーロ é ﷺ 👩‍👩‍👧",
    "tab\tand\x7fbell\x07",
    UNSAID,
]
PAGES = [
    Document("Lease of it\n  Rent 900 monthly  \n\nTotal 75\nTotal 75", metadata={"page": 3}),
    Document("Total 75\n" + "\n".join(HOSTILE), metadata={"page_id": "b"}),
]


def chain(reply, pages=PAGES, **settings):
    llm, backend = scripted(reply)
    made = answer_with_citations(llm, lambda question: pages, **{"quote": True, **settings})
    return made, backend, llm


def cited(answer):
    return [(answer.text[one["start_index"]:one["end_index"]], one["extras"]["number"])
            for one in answer.citations]  # fmt: skip


def test_a_quote_is_a_line_with_the_citation_of_its_page():
    made, backend, llm = chain([json.dumps("Rent 900 monthly [1]")])
    answer = made.invoke("What is the rent?")
    assert (answer.text, cited(answer)) == ("Rent 900 monthly", [("Rent 900 monthly", 1)])
    assert answer.citations[0]["title"] == "document, page 4"
    assert answer.message.text == "Rent 900 monthly"
    assert [page.is_cited for page in answer.pages] == [True, False]
    assert "word for word" in llm.get_text(backend.requests[0].prompt_ids)


@pytest.mark.parametrize("line", HOSTILE)
async def test_no_text_of_a_page_is_markup(line):
    made, *_ = chain([json.dumps(f"{line} [2]")])
    answer = await made.ainvoke("What?")
    assert (answer.text, cited(answer), answer.unknown) == (line, [(line, 2)], ())


def test_what_the_pages_do_not_say():
    for reply in (json.dumps(UNSAID), f'```json\n"{UNSAID}"\n```', f'```JSON\n"{UNSAID}"\n```'):
        made, *_ = chain([reply])
        answer = made.invoke("Who?")
        assert (answer.text, answer.citations) == (UNSAID, ())
        assert not any(page.is_cited for page in answer.pages)


def test_several_lines():
    made, backend, _ = chain(['["Total 75 [2]","Rent 900 monthly [1]","Total 75 [2]"]'], quote=3)
    answer = made.invoke("What?")
    assert answer.text == "Total 75\nRent 900 monthly"
    assert cited(answer) == [("Total 75", 2), ("Rent 900 monthly", 1)]
    (items, unsaid) = json.loads(backend.requests[0].grammar.schema)["anyOf"]
    assert (items["maxItems"], unsaid) == (3, {"const": UNSAID})


def test_no_more_lines_are_permitted_than_asked_for():
    def accepts(grammar, text):
        return xgrammar.testing._is_grammar_accept_string(grammar, text)

    written = {
        json.dumps(f"{line} [{number}]", ensure_ascii=False)
        for number, page in enumerate(PAGES, 1)
        for line in pieces_of(page.page_content)
    } | {f'"{UNSAID}"'}
    assert len(written) == 3 + 1 + len(HOSTILE) + 1
    for quote in (True, 2):
        made, backend, _ = chain([json.dumps(UNSAID)], quote=quote)
        made.invoke("What?")
        (request,) = backend.requests
        # LMDeploy's engine takes the same grammar as the transformers backend, a server the schema.
        grammar = xgrammar.Grammar.from_structural_tag(json.dumps(response_format(request)))
        assert schema_format(request)["json_schema"]["schema"] == json.loads(request.grammar.schema)
        singles = written if quote is True else {f"[{one}]" for one in written} - {f'["{UNSAID}"]'}
        for text in singles:
            # xgrammar escapes the control character DEL, which JSON does not require.
            assert accepts(grammar, text.replace("\x7f", "\\u007f")), text
        for text in ('"Rent 800 monthly [1]"', '"Rent 900 monthly [2]"', '"Rent 900 monthly"', '""',
                     '"Lease of it [1] Total 75 [1]"', "[]", "null",
                     '["Total 75 [1]","Total 75 [2]","Rent 900 monthly [1]"]'):  # fmt: skip
            assert not accepts(grammar, text), text


def test_more_lines_than_choices_can_be():
    page = Document("\n".join(f"Line {number} of many" for number in range(400)))
    made, *_ = chain(['"Line 399 of many [1]"'], [page])
    assert made.invoke("Which?").text == "Line 399 of many"


def test_pages_without_text_leave_one_answer():
    for pages in ([], [Document("")], [Document(" \n\t\n")]):
        made, backend, _ = chain([json.dumps(UNSAID)], pages, quote=3)
        assert made.invoke("What?").text == UNSAID
        assert json.loads(backend.requests[0].grammar.schema) == {"enum": [UNSAID]}


def test_long_lines_are_quoted_by_sentences_and_these_in_parts():
    sentence = "The tenant pays the rent before the third day of each month. "
    assert list(pieces_of("short. And more.")) == ["short. And more."]
    assert list(pieces_of(sentence * 6)) == [sentence.strip()] * 6
    assert list(pieces_of("家賃は九百ユーロ。" * 50)) == ["家賃は九百ユーロ。"] * 50
    words_ = "word " * 200
    parts = list(pieces_of(words_))
    assert " ".join(parts) == words_.strip()
    assert max(map(len, parts)) <= 300
    assert "".join(pieces_of("x" * 1000)) == "x" * 1000
    assert list(pieces_of("half \ud800 a character")) == ["half  a character"]


def test_there_is_room_for_the_longest_quote():
    page = Document("é" * 290)
    quotable = Quotable.of([page], 2)
    assert quotable.settings(20)["max_tokens"] >= 2 * 580
    assert quotable.settings(9000)["max_tokens"] == 9000


@pytest.mark.parametrize("reply", ["Rent 900 monthly [1]", '"Rent 800 [1]"', '"Rent 900 mon', "7",
                                   '{"a": 1}', "[[]]"])  # fmt: skip
def test_other_replies_raise(reply):
    made, *_ = chain([reply])
    with pytest.raises(BackendError, match="no quote of the pages"):
        made.invoke("What?")


def test_a_server_is_sent_the_schema():
    said = lines(*words('"Total', ' 75 [2]"'))
    server = FaultServer(said, models=({"id": "vl", "owned_by": "somebody"},))
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, api_key="hush", max_retries=0)
        answer = answer_with_citations(llm, lambda question: PAGES, quote=True).invoke("What?")
        llm.close()
    assert (answer.text, cited(answer)) == ("Total 75", [("Total 75", 2)])
    sent = server.asked[-1]["response_format"]["json_schema"]["schema"]
    assert "Rent 900 monthly [1]" in sent["enum"]


def test_other_models_and_numbers_are_refused():
    other = FakeListChatModel(responses=["x"])
    with pytest.raises(RequestError, match="FakeListChatModel may not"):
        answer_with_citations(other, lambda question: PAGES, quote=True)
    answer_with_citations(other, lambda question: PAGES)
    for quote in (-1, "all", 1.5, None):
        with pytest.raises(RequestError, match="quote is a bool or a number of lines"):
            chain([], quote=quote)


def test_a_prompt_of_ones_own():
    made, backend, llm = chain([json.dumps(UNSAID)], prompt="{pages} Q: {question}")
    made.invoke("Who?")
    assert "Q: Who?" in llm.get_text(backend.requests[0].prompt_ids)


def test_rows_of_tables_are_quoted_as_their_cells():
    table = (
        '<table><tr><th colspan="2">A &amp; B</th></tr><tr><td>Rent</td><td>900</td></tr></table>'
    )
    assert list(pieces_of(f"Prices\n{table}")) == ["Prices", "A & B", "Rent | 900"]
    sentence = "The tenant pays Mr. Smith on art. 5 of the lease and of the law. "
    assert list(pieces_of(sentence * 6)) == [sentence.strip()] * 6


SPANS = """Prices of 2026
<table>
<tr><th rowspan="2">Item</th><th colspan="2">Price &amp; tax</th></tr>
<tr><th>net</th><th>gross</th></tr>
<tr><td rowspan="2">Rent</td><td>900</td><td>1,071</td></tr>
<tr><td></td><td>950<br>from May</td></tr>
<tr><td colspan="3">All in <b>EUR</b></td></tr>
</table>
Paid monthly."""
ROWS = ["Prices of 2026", "Item | Price & tax", "net | gross", "Rent | 900 | 1,071", "950 from May",
        "All in EUR", "Paid monthly."]  # fmt: skip


@pytest.mark.parametrize("quote", [True, 2])
def test_the_prompt_shows_rows_of_tables_as_they_are_quoted(quote):
    page = Document(SPANS)
    reply = '"Rent | 900 | 1,071 [2]"'
    made, backend, llm = chain([reply], [PAGES[0], page], quote=quote)
    answer = made.invoke("What is the rent?")
    assert cited(answer) == [("Rent | 900 | 1,071", 2)]
    assert answer.pages[1].document.page_content == SPANS
    asked = llm.get_text(backend.requests[0].prompt_ids)
    shown = asked[asked.index("[2] Prices") + 4 : asked.index("Question:")].strip().split("\n")
    assert [one for one in shown if one] == ROWS == list(pieces_of(SPANS))


def test_every_quote_is_text_of_the_prompt():
    sentence = "The tenant pays the rent before the third day of each month. "
    cells = f"<tr><td>{sentence * 7}</td><td>{'x' * 400}</td></tr>"
    pages = [Document(f"{SPANS}\n{sentence * 9}"), Document(f"<table>{cells}</table>"), *PAGES]
    made, backend, llm = chain([json.dumps(UNSAID)], pages, max_pages=9)
    made.invoke("What?")
    asked = llm.get_text(backend.requests[0].prompt_ids)
    quotes = [one.text for one in Quotable.of(pages, 1).quotes.values()]
    assert len(quotes) > 20
    assert [one for one in quotes if one not in asked] == []


def test_answers_of_free_text_are_shown_tables_in_html():
    made, backend, llm = chain(["900 [1]."], [Document(SPANS)], quote=False)
    made.invoke("What is the rent?")
    assert '<th colspan="2">Price &amp; tax</th>' in llm.get_text(backend.requests[0].prompt_ids)
