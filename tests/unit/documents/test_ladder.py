"""Each cause of a bad reply has its remedy."""

import pytest
from drawn_pages import draw_page, long_reply, scripted, sure_reply
from PIL import Image

from langchain_internvl.backends.base import NO_TOKEN, Delta
from langchain_internvl.documents.ladder import finished
from langchain_internvl.documents.page_reader import Reader
from langchain_internvl.documents.reading import TEMPERATURES, Attempt, ReadOptions
from langchain_internvl.errors import ContextOverflowError, EngineBusyError
from langchain_internvl.tools.repetition import check_transcription

PAGE = draw_page(*["A line of text over the page"] * 18)
WORDS = ["one", "second", "hundred", "forty", "zebra", "milk", "x"]
LOOP = "Beginning " + "and on and on " * 30


def read(reply, page=PAGE, **options):
    llm, backend = scripted(reply)
    return Reader(llm, ReadOptions(**options)).read(page), backend.requests


def test_a_good_reply_is_taken_at_once():
    found, requests = read(["Hello"])
    assert (found.text, found.way, found.problem, found.attempts) == ("Hello", "model", None, 1)
    assert len(requests) == 1


def test_a_reply_at_its_limit_gets_more_tokens():
    found, requests = read([long_reply("begun"), "begun and done"], max_tokens=50)
    assert (found.text, found.problem, found.attempts) == ("begun and done", None, 2)
    assert [request.max_tokens for request in requests] == [50, 200]


def test_a_reply_that_a_server_filtered_is_kept_and_flagged():
    filtered = [Delta(NO_TOKEN, "begun"), Delta(NO_TOKEN, "", "content_filter")]
    found, requests = read([filtered], max_tokens=50)
    assert (found.text, found.problem, len(requests)) == ("begun", "content_filter", 1)
    assert found.finish_reason == "content_filter"


@pytest.mark.parametrize("reason", ["content_filter", "length", "repetition", "stop"])
@pytest.mark.parametrize("text", [LOOP, "Name\n" + "No. 10\n" * 25, "Read", "Read Read"])
def test_a_page_and_a_tool_find_the_same_problem(text, reason):
    """A filtered reply with equal rows had the problem of a loop here, and of a filter there."""
    attempt = Attempt(text.strip(), finish_reason=reason)
    kept, problem = check_transcription(text.strip(), reason)
    found = finished(attempt)
    assert (found.text, found.problem) == (kept, problem)
    if reason == "content_filter":
        assert (kept, problem) == (text.strip(), "content_filter")


def test_a_reply_that_a_server_ended_in_a_loop_is_tried_again():
    ended = [Delta(NO_TOKEN, LOOP), Delta(NO_TOKEN, "", "repetition")]
    found, requests = read([ended, "All of it"])
    assert (found.text, found.problem, len(requests)) == ("All of it", None, 2)


def test_a_server_may_notice_shorter_loops():
    def ended(text):
        return [Delta(NO_TOKEN, text), Delta(NO_TOKEN, "", "repetition")]

    short = "One two two two"
    found, requests = read([ended(short), "All of it"], max_tokens=50)
    assert (found.text, found.problem, len(requests)) == ("All of it", None, 2)
    assert [one.max_tokens for one in requests] == [50, 50]
    longer = f"Zero, and then {short}"
    replies = [ended(short), ended(LOOP), ended(longer), *[ended(short)] * 9]
    found, requests = read(replies, max_tokens=50, rotation="never")
    assert (found.text, found.problem, found.finish_reason) == (longer, "repetition", "repetition")
    assert len(requests) == 1 + len(TEMPERATURES)
    assert {one.max_tokens for one in requests} == {50}


def test_then_the_page_is_read_in_halves():
    replies = [
        long_reply("a"),
        long_reply("a b"),
        "one\ntwo words\nthree",
        "two words\nthree\nfour",
    ]
    found, requests = read(replies, max_tokens=10)
    assert (found.text, found.problem) == ("one\ntwo words\nthree\nfour", None)
    assert (found.parts, found.attempts) == (2, 4)
    assert (
        requests[2].tiles[0].shape != requests[0].tiles[0].shape
        or not (requests[2].tiles[0] == requests[0].tiles[0]).all()
    )


def test_what_is_never_done_says_so():
    found, requests = read(lambda request: long_reply(f"part {request.max_tokens}"), max_tokens=10)
    assert found.problem == "length"
    assert (found.parts, len(requests), found.attempts) == (4, 14, 14)


def test_where_there_is_no_room_for_more_tokens_the_page_is_halved():
    def reply(request):
        if request.max_tokens > 10:
            raise ContextOverflowError("too long")
        return long_reply("a") if len(calls) < 1 and not calls.append(1) else "half"

    calls = []
    found, _ = read(reply, max_tokens=10)
    assert (found.text, found.parts) == ("half\nhalf", 2) or found.text == "half"


def test_a_loop_is_tried_again_with_other_temperatures_and_seeds():
    found, requests = read([long_reply(LOOP)] * 4 + ["All of it"])
    assert (found.text, found.problem, found.attempts) == ("All of it", None, 5)
    settings = [(one.sampling.temperature, one.sampling.seed) for one in requests[1:]]
    assert settings == [(0.1, 1), (0.1, 2), (0.2, 3), (0.3, 4)]
    assert all(one.sampling.repetition_penalty == 1 for one in requests)


def test_a_loop_that_stays_is_cut_and_reported():
    found, requests = read([long_reply(LOOP)] * 9, rotation="never")
    assert found.problem == "repetition"
    assert found.text == "Beginning and on"
    assert [one.sampling.temperature for one in requests[1:]] == list(TEMPERATURES)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_retries_have_a_limit(most):
    replies = [long_reply(LOOP)] * 20
    found, requests = read(replies, max_retries=most)
    assert len(requests) == found.attempts == 1 + most
    assert (found.text, found.problem) == ("Beginning and on", "repetition")
    found, requests = read([long_reply(f"part {n}") for n in range(20)], max_retries=most)
    assert len(requests) == 1 + most
    assert found.problem == "length"
    assert found.text.startswith("part")


def test_each_part_of_a_page_is_read_whatever_the_limit():
    page = draw_page(*["A line of text"] * 40, size=(600, 3000))
    replies = [long_reply(LOOP), "second", "third", long_reply("fourth")]
    found, requests = read(replies, page, max_tiles=4, max_retries=0)
    assert len(requests) == 4
    assert found.text.split()[-3:] == ["second", "third", "fourth"]


def test_a_loop_within_more_tokens_is_a_loop():
    replies = [long_reply("a b c"), long_reply(LOOP), "done"]
    found, requests = read(replies, max_tokens=10)
    assert (found.text, found.attempts) == ("done", 3)
    assert (requests[2].max_tokens, requests[2].sampling.temperature) == (40, 0.1)


def test_a_table_may_end_in_equal_rows():
    table = "Item\n" + "0 | 0\n" * 24
    found, requests = read([table])
    assert (found.text, found.problem, len(requests)) == (table.strip(), "repetition", 1)


def test_empty_paper_is_not_asked_about():
    blank = draw_page()
    found, requests = read([], blank)
    assert (found.text, found.way, found.attempts, requests) == ("", "blank", 0, [])
    found, requests = read(["(nothing)"], blank, skip_blank=False)
    assert (found.text, len(requests)) == ("(nothing)", 1)


def test_pages_over_the_tile_budget_are_read_in_parts():
    page = draw_page(*["A line of text"] * 40, size=(600, 3000))
    found, requests = read(WORDS, page, max_tiles=4)
    assert found.parts == len(requests) == 4
    assert found.text.splitlines() == WORDS[:4]
    assert all(len(request.tiles[0]) <= 5 for request in requests)  # and the thumbnail


def test_probabilities_are_reported():
    found, _ = read([sure_reply("Hello", 0.9)])
    assert found.probability == pytest.approx(0.9)
    assert read(["Hello"])[0].probability is None


def test_errors_of_the_engine_come_through():
    with pytest.raises(EngineBusyError):
        read([EngineBusyError("too many")])


async def test_the_same_without_blocking():
    llm, backend = scripted([long_reply(LOOP), "All of it"])
    found = await Reader(llm, ReadOptions()).aread(PAGE)
    assert (found.text, found.attempts, len(backend.requests)) == ("All of it", 2, 2)
    llm, _ = scripted([EngineBusyError("too many")])
    with pytest.raises(EngineBusyError):
        await Reader(llm, ReadOptions()).aread(PAGE)


def test_skewed_pages_are_levelled_first():
    askew = PAGE.rotate(4, Image.Resampling.BICUBIC, fillcolor="white")
    found, _ = read(["Hello"], askew)
    assert found.skew == pytest.approx(4, abs=0.3)
    assert read(["Hello"], askew, deskew=False)[0].skew == 0
