"""An agent whose eyes are nano: only its choice of tools is written down."""

import random
import re

import pytest
from drawings import draw_sign
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from support_agents import Driver

from langchain_internvl import ChatInternVL, InternVLToolkit, image_block
from langchain_internvl.evaluation import acc_at_iou

QUESTION = {"type": "text", "text": "What does the sign say?"}


def choose(results):
    """Find the sign, read that part of the picture, and answer."""
    if not results:
        return "ground", {"image": "image:1", "phrase": "sign"}
    if len(results) == 1:
        region = re.search(r"region ([\d, ]+)", results[0].text).group(1)
        return "read_text", {"image": "image:1", "region": region}
    return f"It says {results[1].text}"


@pytest.fixture(scope="module")
def llm():
    llm = ChatInternVL(model="nano", temperature=0, max_tokens=100)
    yield llm
    llm.close()


@pytest.mark.slow
def test_an_agent_finds_signs_and_reads_them(llm):
    """Of twelve random words in random places it misses one and misreads four: nano is a toy."""
    agent = create_agent(Driver(choose=choose), tools=InternVLToolkit(llm=llm).get_tools())
    found, right = 0, 0
    for seed in range(12):
        picture, word, box = draw_sign(random.Random(seed))
        state = agent.invoke({"messages": [HumanMessage([image_block(picture), QUESTION])]})
        place, reading = (one.artifact for one in state["messages"] if one.type == "tool")
        assert 0.2 < place.boxes[0].confidence <= 1
        assert reading.lines[0] in state["messages"][-1].text
        found += acc_at_iou(place.boxes[0].pixels, box)
        right += word in state["messages"][-1].text
    assert found >= 11
    assert right >= 8


def test_it_reads_another_word_on_another_picture(llm):
    """So the word comes from the picture and from nowhere else."""
    agent = create_agent(Driver(choose=choose), tools=InternVLToolkit(llm=llm).get_tools())
    pictures = [draw_sign(random.Random(seed)) for seed in (100, 101)]
    said = [
        agent.invoke({"messages": [HumanMessage([image_block(one[0]), QUESTION])]})
        for one in pictures
    ]
    assert said[0]["messages"][-1].text != said[1]["messages"][-1].text
