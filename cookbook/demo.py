"""Questions about images, a page and a video: what `make demo` runs, offline and in seconds.

By default it draws them and asks nano, the toy model that is embedded in the package. With
weights and files of your own:

    python cookbook/demo.py --model OpenGVLab/InternVL2-8B photo.jpg clip.mp4
"""

from __future__ import annotations

import argparse
import mimetypes
import time
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from PIL import Image, ImageDraw, ImageFont

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.tools.task_prompts import DESCRIBE, GROUND, READ, WATCH

RED, BLUE = (222, 32, 32), (40, 72, 222)


def main() -> None:
    """Hold a conversation about drawn images, or about the given images and videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="nano", help="hub id, folder, or nano")
    parser.add_argument("files", nargs="*", type=Path, help="images and videos")
    arguments = parser.parse_args()
    missing = [str(file) for file in arguments.files if not file.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    llm = ChatInternVL(model=arguments.model, temperature=0, max_tokens=200)
    print(f"Model: {arguments.model}")
    if arguments.files:
        look_at_files(llm, arguments.files)
    else:
        look_at_drawings(llm)
    llm.close()


def look_at_drawings(llm: ChatInternVL) -> None:
    """Shapes, printed text and a moving circle."""
    messages: list[BaseMessage] = []
    drawing = "a drawing of a red circle and a blue square"
    ask(llm, messages, DESCRIBE, drawing, image_block(draw_shapes()))
    ask(llm, messages, "What color is the circle?")
    ask(llm, [], GROUND.format("blue square"), "the same drawing", image_block(draw_shapes()))
    ask(llm, [], READ, "a page with two lines of text", image_block(draw_page()))
    ask(llm, [], WATCH, "eight frames of a moving red circle", video_block(draw_frames()))


def look_at_files(llm: ChatInternVL, files: list[Path]) -> None:
    """One question about each file, in one conversation."""
    messages: list[BaseMessage] = []
    for file in files:
        if (mimetypes.guess_type(file.name)[0] or "").startswith("video/"):
            ask(llm, messages, "What happens in the video?", file.name, video_block(file))
        else:
            ask(llm, messages, DESCRIBE, file.name, image_block(file))


def draw_shapes() -> Image.Image:
    """A red circle on the left, a blue square on the right."""
    picture = Image.new("RGB", (448, 448), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((50, 70, 170, 190), fill=RED)
    pen.rectangle((270, 230, 380, 340), fill=BLUE)
    return picture


def draw_page() -> Image.Image:
    """A page with two lines of text."""
    picture = Image.new("RGB", (448, 448), "white")
    font = ImageFont.load_default(40)
    ImageDraw.Draw(picture).text((40, 60), "Hello world\nInvoice 2041", fill="black", font=font)
    return picture


def draw_frames() -> list[Image.Image]:
    """A red circle that moves to the right."""
    frames = []
    for step in range(8):
        frame = Image.new("RGB", (448, 448), "white")
        left = 20 + 43 * step
        ImageDraw.Draw(frame).ellipse((left, 170, left + 110, 280), fill=RED)
        frames.append(frame)
    return frames


def ask(
    llm: ChatInternVL,
    messages: list[BaseMessage],
    question: str,
    name: str = "",
    *media: dict[str, Any],
) -> None:
    """Ask one question, stream the reply, and add both to the conversation."""
    messages.append(HumanMessage([*media, {"type": "text", "text": question}]))
    print(f"\nYou{f' (with {name})' if name else ''}: {question}")
    start, reply = time.perf_counter(), None
    for chunk in llm.stream(messages):
        print(chunk.text if reply else f"InternVL: {chunk.text}", end="", flush=True)
        reply = chunk if reply is None else reply + chunk
    if reply is None or reply.usage_metadata is None:
        raise SystemExit("the model gave no reply")
    usage = reply.usage_metadata
    print(
        f"\n  [{usage['input_tokens']} tokens in, {usage['output_tokens']} out, "
        f"{reply.response_metadata['finish_reason']}, {time.perf_counter() - start:.1f} s]"
    )
    messages.append(AIMessage(reply.text))


if __name__ == "__main__":
    main()
