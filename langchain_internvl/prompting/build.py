"""Renders a conversation with a chat template to a prompt.

Two steps: `lay_out` fixes positions and numbers of the images, `build_prompt` puts the turns into
the frames of the template.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from langchain_internvl.errors import PromptError, UnsupportedMediaError
from langchain_internvl.messages.conversation import (
    Document,
    Image,
    Instruction,
    Part,
    Text,
    Turn,
    Video,
    lacks_line_end,
)
from langchain_internvl.prompting.reply_ids import (
    ReplyIds,
    repeats_replies,
    with_generated_ids,
)
from langchain_internvl.prompting.segments import Markup, Prompt, Segment, Slot, Words
from langchain_internvl.prompting.templates import ChatTemplate, Frame
from langchain_internvl.prompting.tool_formats import HERMES, ToolFormat
from langchain_internvl.reply_text.reasoning import OPEN, THINKING_SYSTEM

ImageOrder = Literal["auto", "as_given"]


@dataclass(frozen=True)
class PromptOptions:
    """Options of media and the system text in a prompt.

    Attributes:
        number_images: Write `Image-k: ` before an image, unless it is the only one so far.
        join_images: Put all images of a message between one pair of image tokens.
        image_order: "auto": if all text of a message precedes its media, the media are moved to
            the front, as in the models' training; "as_given": no change.
        default_system: "template", a text, or None for no system turn; used if the conversation
            does not begin with a system turn of its own.
        reasoning: Request reasoning by a system text, which replaces the template's or precedes
            another one.
        reasoning_system: That system text.
        reply_start: Prefix of the reply, at the end of the prompt.
        max_tiles_per_frame: Maximum number of tiles of a video frame, unless its block sets it.
    """

    number_images: bool = True
    join_images: bool = False
    image_order: ImageOrder = "auto"
    default_system: str | None = "template"
    reasoning: bool = False
    reasoning_system: str = THINKING_SYSTEM
    reply_start: str = ""
    max_tiles_per_frame: int = 1


@dataclass(frozen=True)
class LaidOutTurn:
    """A turn whose text and images have their final positions."""

    turn: Turn
    segments: tuple[Segment, ...]


@dataclass
class _Layout:
    """State of the layout of a conversation."""

    options: PromptOptions
    images: list[Image] = field(default_factory=list)
    groups: int = 0  # numbered images; joined images count as one, video frames do not count

    def add(self, turn: Turn) -> LaidOutTurn:
        parts = _order(turn.parts) if self.options.image_order == "auto" else turn.parts
        shown = [part for part in parts if isinstance(part, Image)]
        slots = [shown] if self.options.join_images and shown else [[one] for one in shown]
        only_image = self.groups + len(slots) == 1
        segments: list[Segment] = []
        before: Part | None = None  # the latest part that wrote something
        for part in parts:
            if isinstance(part, Image) and not slots:
                continue  # joined images are at the position of the first one
            if isinstance(part, Text):
                segments += [*_line_end(before, part), Words(part.text)]
            elif isinstance(part, Instruction):
                segments.append(Markup(part.text))
            elif isinstance(part, Video):
                segments += [*_line_end(before, part), *self._video(part)]
            elif isinstance(part, Document):
                raise UnsupportedMediaError(
                    part.source.name, "pages must be taken from the PDF first"
                )
            else:
                self.groups += 1
                segments += _line_end(before, part)
                if self.options.number_images and not only_image:
                    segments.append(Markup(f"Image-{self.groups}: "))
                segments += [self._slot(slots.pop(0)), Markup("\n")]
            before = part
        return LaidOutTurn(turn, tuple(segments))

    def _video(self, video: Video) -> list[Segment]:
        if video.source is not None:
            raise UnsupportedMediaError(
                video.source.name, "frames must be taken from the video first"
            )
        segments: list[Segment] = []
        for number, frame in enumerate(video.frames, 1):
            fewest = frame.min_tiles or 1
            most = max(video.max_tiles or self.options.max_tiles_per_frame, fewest)
            limited = replace(frame, min_tiles=fewest, max_tiles=frame.max_tiles or most)
            segments += [Markup(f"Frame{number}: "), self._slot([limited]), Markup("\n")]
        return segments

    def _slot(self, images: Iterable[Image]) -> Slot:
        start = len(self.images)
        self.images += images
        return Slot(tuple(range(start, len(self.images))))


def lay_out(
    turns: Sequence[Turn], options: PromptOptions
) -> tuple[list[LaidOutTurn], tuple[Image, ...]]:
    """Fix the positions of the text and media of each turn.

    The number of an image depends only on what precedes it, so earlier turns never change and a
    cached prefix of the prompt stays valid.

    Returns:
        The turns, and all images in the order of their slots.

    Raises:
        UnsupportedMediaError: A turn has a video file or a PDF, which must be expanded to images
            first.
    """
    layout = _Layout(options)
    laid_out = [layout.add(turn) for turn in turns]
    return laid_out, tuple(layout.images)


def _order(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Media first, if all text of the message precedes them."""
    media = [part for part in parts if not isinstance(part, (Text, Instruction))]
    if not media or any(isinstance(part, Text) for part in parts[parts.index(media[0]) :]):
        return parts
    return (*media, *(part for part in parts if isinstance(part, (Text, Instruction))))


def _line_end(before: Part | None, part: Part) -> list[Segment]:
    """A line end between two parts, if it is missing beside a text that stands alone.

    Texts beside each other have theirs already, unless a joined image stood between them.
    """
    return [Words("\n")] if lacks_line_end(before, part) else []


def build_prompt(
    turns: Sequence[Turn],
    template: ChatTemplate,
    options: PromptOptions | None = None,
    tools: ToolFormat = HERMES,
    instructions: Sequence[Part] = (),
    *,
    replies: ReplyIds | None = None,
) -> Prompt:
    """Render a conversation with a template, up to the beginning of the reply.

    Args:
        turns: The conversation.
        template: The chat template.
        options: Options of media and the system text.
        tools: The format of tool calls and results.
        instructions: Instructions appended to the system text.
        replies: Token ids of earlier replies; None: their text alone is known.

    Raises:
        PromptError: The template cannot express the conversation.
        UnsupportedMediaError: A turn has a video file or a PDF, which must be expanded to images
            first.
    """
    options = options or PromptOptions()
    turns = with_instructions(with_system(turns, template.default_system, options), instructions)
    laid_out, images = lay_out(turns, options)
    if not repeats_replies(template):
        replies = None
    if options.reply_start:
        template = replace(template, reply=template.reply + options.reply_start)
    return Prompt(frame_turns(laid_out, template, tools, replies), images)


def with_system(
    turns: Sequence[Turn], template_system: str | None, options: PromptOptions
) -> Sequence[Turn]:
    """The conversation with its final system text, at the start.

    A system turn in the middle stays there and replaces nothing: the prompt of a later turn begins
    with that of an earlier one, so that its cached keys and values stay valid.

    Args:
        turns: The conversation.
        template_system: System text of the template; None: none.
        options: The default system text, and whether reasoning is requested.
    """
    if _has_system(turns) and not options.reasoning:
        return turns
    if _has_system(turns):
        own = turns[0]
        thinking = Instruction(options.reasoning_system + ("\n\n" if own.parts else ""))
        return [replace(own, parts=(thinking, *own.parts)), *turns[1:]]
    system = options.default_system
    if options.reasoning:
        return with_system([_system(None if system == "template" else system), *turns],
                           template_system, options)  # fmt: skip
    text = template_system if system == "template" else system
    return turns if text is None else [_system(text), *turns]


def with_think_suffix(turns: Sequence[Turn]) -> list[Turn]:
    """The conversation with `<think>` after the last question, which requests it of Qianfan-OCR."""
    places = [index for index, turn in enumerate(turns) if turn.role == "user"]
    if not places:
        return list(turns)
    last = turns[places[-1]]
    asked = replace(last, parts=(*last.parts, Instruction(OPEN)))
    return [*turns[: places[-1]], asked, *turns[places[-1] + 1 :]]


def with_instructions(turns: Sequence[Turn], instructions: Sequence[Part]) -> Sequence[Turn]:
    """The conversation with instructions appended to its system text at the start."""
    if not instructions:
        return turns
    if not _has_system(turns):
        turns = [Turn("system"), *turns]
    own = turns[0]
    if not own.parts:  # no text to separate from
        first = instructions[0]
        if isinstance(first, (Text, Instruction)):
            instructions = [replace(first, text=first.text.lstrip("\n")), *instructions[1:]]
    instructed = replace(own, parts=(*own.parts, *instructions))
    return [instructed, *turns[1:]]


def _has_system(turns: Sequence[Turn]) -> bool:
    """Whether a conversation begins with its own system text."""
    return bool(turns) and turns[0].role == "system"


def _system(text: str | None) -> Turn:
    return Turn("system", (Text(text),) if text else ())


def frame_turns(
    turns: Sequence[LaidOutTurn],
    template: ChatTemplate,
    tools: ToolFormat = HERMES,
    replies: ReplyIds | None = None,
) -> tuple[Segment, ...]:
    """Put laid-out turns into the frames of a template; see `build_prompt`."""
    segments: list[Segment] = []
    for role, group in groupby(enumerate(turns), key=lambda item: item[1].turn.role):
        if role == "tool":  # results of one round share a turn
            segments += _results([turn for _, turn in group], template, tools)
            continue
        for index, laid_out in group:
            if role == "system":
                if index and not template.system.open:
                    raise PromptError(
                        f"template {template.name!r} takes a system message at the start only"
                    )
                segments += _framed(template.system, laid_out.segments)
            elif role == "user":
                segments += _framed(template.user, laid_out.segments)
            else:
                said: Sequence[Segment] = _said(laid_out, tools)
                if replies is not None:
                    said = with_generated_ids(said, laid_out.turn.message_id, replies)
                segments += _framed(template.assistant, said)
    return tuple(
        segment for segment in (*segments, Markup(template.reply)) if segment != Markup("")
    )


def _framed(frame: Frame, segments: Sequence[Segment]) -> list[Segment]:
    if not segments:
        return [Markup(frame.empty)]
    return [Markup(frame.open), *segments, Markup(frame.close)]


def _said(laid_out: LaidOutTurn, tools: ToolFormat) -> list[Segment]:
    calls = tools.write_calls(laid_out.turn.tool_calls, after_words=bool(laid_out.segments))
    return [*laid_out.segments, *calls]


def _results(
    turns: Sequence[LaidOutTurn], template: ChatTemplate, tools: ToolFormat
) -> list[Segment]:
    """Tool results of one round: together in one user turn, or each in its own turn."""
    rounds = [turns] if tools.result_header is None else [[turn] for turn in turns]
    segments: list[Segment] = []
    for results in rounds:
        segments.append(Markup(tools.result_header or template.user.open))
        for index, result in enumerate(results):
            segments += [
                Markup((tools.between if index else "") + tools.open_result),
                *result.segments,
                Markup(tools.close_result),
            ]
        segments.append(Markup(template.user.close))
    return segments
