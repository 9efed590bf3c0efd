"""A photograph and a question: what `make demo` runs, offline.

Loads a checkpoint in InternVL2's original format with current transformers and without remote
code, and talks to it about real photographs. The checkpoint in this repository is tiny and
random: everything but the meaning of its words is real. With weights of your own:

    python cookbook/demo.py --model OpenGVLab/InternVL2-8B photo.jpg
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_internvl import ChatInternVL, image_block

DATA = Path(__file__).parent.parent / "tests" / "data"
TINY = DATA / "golden" / "tiny-internvl2-internlm2"
PHOTOS = [DATA / "photos" / name for name in ("chelsea.png", "coffee.png")]


def main() -> None:
    """Hold a conversation of three turns about the given photographs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=str(TINY), help="hub id or folder")
    parser.add_argument("photos", nargs="*", type=Path, default=PHOTOS, help="image files")
    arguments = parser.parse_args()
    photos = arguments.photos
    missing = [str(photo) for photo in photos if not photo.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    llm = ChatInternVL(model=arguments.model, temperature=0, max_tokens=24, max_tiles=2)

    print(f"Checkpoint: {arguments.model}")
    if arguments.model == str(TINY):
        print("It is tiny and random: it sees and speaks, but ITS WORDS MEAN NOTHING.")
    messages: list[BaseMessage] = []
    first, *others = photos
    ask(llm, messages, "Please describe the image shortly.", first)
    ask(llm, messages, "Please write a poem according to the image.")
    if others:
        ask(llm, messages, "What do the pictures have in common?", *others)
    llm.close()


def ask(llm: ChatInternVL, messages: list[BaseMessage], question: str, *photos: Path) -> None:
    """Ask one question, stream the reply, and add both to the conversation."""
    blocks = [image_block(photo) for photo in photos]
    messages.append(HumanMessage([*blocks, {"type": "text", "text": question}]))
    shown = f" (with {', '.join(photo.name for photo in photos)})" if photos else ""
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
