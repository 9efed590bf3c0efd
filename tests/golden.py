"""The recorded outputs of the reference implementation, as cases for tests.

Everything is read from `data/golden`, and no case is named here: other recordings of the same
kind can be put in its place.
"""

import json
import re
from pathlib import Path

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_internvl import image_block, video_block

DATA = Path(__file__).parent / "data"
GOLDEN = DATA / "golden"
PHOTOS = DATA / "photos"
VIDEO = DATA / "videos/bigbuckbunny.mp4"
SCAN = DATA / "documents/c03-29.pdf"
TINY = ("internlm2", "qwen2", "phi3", "llama")

# The lone U+2581 that transformers 4 put in front of the first special token, by tokenizer.
_LONE_PREFIX = {"tiny-internvl2-phi3": 885, "tiny-internvl2-llama": 884}
# Of these, transformers 5 gives other ids than 4 did, and a recording of its own.
_CHAT_FILES = {"phi3": "chat_v5tok.json", "llama": "chat_v5tok.json"}

NOT_EXPRESSIBLE = json.loads((DATA / "not_expressible.json").read_text("utf-8"))


class NotExpressibleError(Exception):
    """Content blocks cannot say what a case says."""


def load(name):
    return json.loads((GOLDEN / name).read_text("utf-8"))


def checkpoint_folder(name):
    return GOLDEN / (name if name.startswith("tiny") else f"tiny-internvl2-{name}")


def prompt_cases(*, method):
    return [case for case in load("prompts.json")["cases"] if case["method"] == method]


def chat_cases(name):
    """Generations of a tiny checkpoint, with the token ids that transformers 5 gives."""
    cases = load(_CHAT_FILES.get(name, "chat.json"))["cases"]
    return [case for case in cases if case["model"] == f"tiny-internvl2-{name}"]


def by_id(cases):
    """Arguments for `parametrize`."""
    return {"argvalues": cases, "ids": [case["id"] for case in cases]}


def case_name(case):
    return case.get("case") or case["id"].rsplit("/", 1)[1]


def run_lengths(pairs):
    return [value for value, count in pairs for _ in range(count)]


def prompt_ids(case, pairs):
    """Recorded ids as transformers 5 would give them."""
    ids = run_lengths(pairs)
    lone = _LONE_PREFIX.get(case["tokenizer"])
    if lone in ids[:2]:
        ids.remove(lone)
    return ids


def expected_reply(text):
    """A reply as the reference returns it: it drops the grounding markup, which we keep."""
    return re.sub(r"</?(ref|box|quad)>", "", text).strip()


def to_messages(case, question=None):
    """LangChain messages that say what a case says, and settings of `ChatInternVL`.

    Args:
        case: A case of `prompts.json` or `chat.json`.
        question: One of the questions of a `batch_chat` case, with its images in `case`.

    Raises:
        NotExpressibleError: Content blocks cannot say it.
    """
    if "error" in case:
        raise NotExpressibleError
    question = case["question"] if question is None else question
    images = list(case["images"] or [])
    patches = case.get("num_patches_list") or []
    joined = bool(case.get("joined"))
    if not joined and images and len(patches) != len(images):
        raise NotExpressibleError
    settings = {"join_images": True} if joined else {}
    messages = []
    if case.get("system_message") is not None:
        messages.append(SystemMessage(case["system_message"]))
    turns = [*(case.get("history") or []), [question, None]]
    if images and len(turns) == 1 and "<image>" not in question:
        turns[0][0] = "<image>\n" + question
    total = len(images)
    groups = 0
    for said, answer in turns:
        content, shown, labelled = _blocks(said, images, joined=joined)
        messages.append(HumanMessage(content))
        if shown and groups + shown > 1 and not labelled:
            settings["number_images"] = False
        elif shown and labelled and labelled != list(range(groups + 1, groups + shown + 1)):
            raise NotExpressibleError
        groups += shown
        if answer is not None:
            messages.append(AIMessage(answer))
    if images and total:
        raise NotExpressibleError  # images that no tag shows
    return messages, settings


_IMAGE_LINE = re.compile(r"(?:Image-(\d+): )?<image>\n")
_FRAME_LINE = re.compile(r"Frame(\d+): <image>\n")


def _blocks(said, images, *, joined):
    """The content of a message; takes the images that it shows from the list."""
    if not images:
        return said, 0, []
    frames, rest = _leading_lines(_FRAME_LINE, said)
    if frames:
        shown = [images.pop(0) for _ in frames]
        block = video_block([_path(image) for image in shown], max_tiles=shown[0]["max_num"])
        return _with_text([block], rest), 0, []
    lines, rest = _leading_lines(_IMAGE_LINE, said)
    if "<image>" in rest:
        raise NotExpressibleError
    count = len(images) if joined and lines else len(lines)
    shown = [images.pop(0) for _ in range(count)]
    blocks = [image_block(_path(image), max_tiles=image["max_num"]) for image in shown]
    labels = [int(label) for label in lines if label]
    if not blocks:
        return said, 0, []
    return _with_text(blocks, rest), 1 if joined else len(blocks), labels


def _leading_lines(pattern, text):
    groups = []
    while match := pattern.match(text):
        groups.append(match[1])
        text = text[match.end() :]
    return groups, text


def _with_text(blocks, text):
    return [*blocks, {"type": "text", "text": text}] if text else blocks


def _path(image):
    return GOLDEN / image["file"]
