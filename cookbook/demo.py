"""Photographs, a video and questions: what `make demo` runs, offline.

Loads a checkpoint in InternVL2's original format with current transformers and without remote
code, and talks to it about real photographs and a real video. The checkpoint in this repository is
tiny and random: everything but the meaning of its words is real. With weights of your own:

    python cookbook/demo.py --model OpenGVLab/InternVL2-8B photo.jpg clip.mp4
"""

from __future__ import annotations

import argparse
import mimetypes
import time
from pathlib import Path

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_internvl import ChatInternVL, image_block, video_block

DATA = Path(__file__).parent.parent / "tests" / "data"
TINY = DATA / "golden" / "tiny-internvl2-internlm2"
FILES = [
    DATA / name for name in ("photos/chelsea.png", "photos/coffee.png", "videos/bigbuckbunny.mp4")
]


def main() -> None:
    """Hold a conversation about the given photographs and videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=str(TINY), help="hub id or folder")
    parser.add_argument("files", nargs="*", type=Path, default=FILES, help="images and videos")
    arguments = parser.parse_args()
    missing = [str(file) for file in arguments.files if not file.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    llm = ChatInternVL(model=arguments.model, temperature=0, max_tokens=24, max_tiles=2)

    print(f"Checkpoint: {arguments.model}")
    if arguments.model == str(TINY):
        print("It is tiny and random: it sees and speaks, but ITS WORDS MEAN NOTHING.")
    messages: list[BaseMessage] = []
    photos = [file for file in arguments.files if not is_video(file)]
    videos = [file for file in arguments.files if is_video(file)]
    if photos:
        ask(llm, messages, "Please describe the image shortly.", photos[0])
        ask(llm, messages, "Please write a poem according to the image.")
    if len(photos) > 1:
        ask(llm, messages, "What do the pictures have in common?", *photos[1:])
    for video in videos:
        ask(llm, messages, "What happens in the video?", video)
    llm.close()


def is_video(file: Path) -> bool:
    """Whether a file is a video, by its name."""
    return (mimetypes.guess_type(file.name)[0] or "").startswith("video/")


def ask(llm: ChatInternVL, messages: list[BaseMessage], question: str, *files: Path) -> None:
    """Ask one question, stream the reply, and add both to the conversation."""
    blocks = [video_block(file) if is_video(file) else image_block(file) for file in files]
    messages.append(HumanMessage([*blocks, {"type": "text", "text": question}]))
    shown = f" (with {', '.join(file.name for file in files)})" if files else ""
    print(f"\nYou{shown}: {question}")
    start, reply = time.perf_counter(), None
    for chunk in llm.stream(messages):
        print(chunk.text if reply else f"InternVL: {chunk.text}", end="", flush=True)
        reply = chunk if reply is None else reply + chunk
    if reply is None or reply.usage_metadata is None:
        raise SystemExit("the model said nothing at all")
    usage = reply.usage_metadata
    print(
        f"\n  [{usage['input_tokens']} tokens in, {usage['output_tokens']} out, "
        f"{reply.response_metadata['finish_reason']}, {time.perf_counter() - start:.1f} s]"
    )
    messages.append(AIMessage(reply.text))


if __name__ == "__main__":
    main()
