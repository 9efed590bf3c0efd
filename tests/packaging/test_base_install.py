"""What an installation without extras can do, and what it says of those that are missing."""

import pytest
from conftest import run

pytestmark = pytest.mark.packaging

WORKS = """
from langchain_core.messages import HumanMessage
from PIL import Image
from langchain_internvl import Box, ChatInternVL, MediaPolicy, draw_boxes, image_block, parse_boxes
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.media.tiling import tile_image

(box,) = parse_boxes("<ref>cat</ref><box>[[100, 200, 300, 400]]</box>")
assert isinstance(box, Box) and box.label == "cat"
image = Image.new("RGB", (300, 200))
draw_boxes(image, [box])
assert tile_image(image).shape[1:] == (448, 448, 3)
MediaPolicy(roots=["."])
HumanMessage(content_blocks=[image_block(image), {"type": "text", "text": "What is it?"}])
ChatInternVL(model="OpenGVLab/InternVL2-8B", base_url="http://127.0.0.1:9/v1")
print("fine")
"""


def test_messages_boxes_tiles_and_policies_work(base):
    done = base.run(WORKS)
    assert done.stdout.strip() == "fine", done.stderr


@pytest.mark.parametrize(
    ("extra", "program"),
    [
        ("transformers", "ChatInternVL(model='nano').invoke('x')"),
        ("transformers", "ChatInternVL(model='nano').prompt_ids('x')"),
        ("server", ("ChatInternVL(model='nano', base_url='http://127.0.0.1:9/v1',"
                   " server_prompt='messages').invoke('x')")),
        ("documents", "pages()"),
        ("evaluation", "from langchain_internvl.evaluation import anls; anls('a', 'b')"),
    ],
)  # fmt: skip
def test_a_missing_extra_is_named_at_its_first_use(base, extra, program):
    done = base.run(
        "from langchain_internvl import ChatInternVL, InternVLImageParser\n"
        "from langchain_core.documents.base import Blob\n"
        "def pages():\n"
        "    llm = ChatInternVL(model='nano')\n"
        "    blob = Blob.from_data(b'%PDF-1.4', mime_type='application/pdf')\n"
        "    return InternVLImageParser(llm=llm).parse(blob)\n"
        f"{program}"
    )
    assert "ImportError" in done.stderr, done.stderr
    assert f"langchain-internvl[{extra}]" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["read", "a.png"], ["--version"]])
def test_the_command_names_its_extra_without_a_traceback(base, arguments):
    done = run(base.bin / "langchain-internvl", *arguments, check=False)
    assert done.returncode != 0
    assert "langchain-internvl[cli]" in done.stderr
    assert "Traceback" not in done.stderr
