"""Requests that carry the conversation, for backends whose tokenizer is not available here.

The server renders the prompt with its own template: images are not numbered, and the server
chooses the number of tiles unless a setting requests one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_internvl.backends.base import Choice, Request
from langchain_internvl.errors import RequestError
from langchain_internvl.grammars.grammar import json_grammar
from langchain_internvl.media.images import sniff_mime_type, use_rgb
from langchain_internvl.media.pixels import no_memory, read_orientation
from langchain_internvl.media.sources import BytesSource, UrlSource
from langchain_internvl.media.tiling import TileLimits, choose_grid
from langchain_internvl.messages.conversation import Image, Instruction, Text, Video
from langchain_internvl.prompting.build import PromptOptions, with_instructions, with_system
from langchain_internvl.prompting.control_tokens import disarm_json
from langchain_internvl.prompting.tool_formats import HERMES
from langchain_internvl.prompting.tool_results import order_tool_results
from langchain_internvl.requests.call_context import CallContext
from langchain_internvl.tool_calling.call_stream import CallStream
from langchain_internvl.tool_calling.response_format import ResponseFormat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from PIL.Image import Image as Picture

    from langchain_internvl.messages.conversation import Part, Turn
    from langchain_internvl.settings.call import CallSettings

_TAKEN_BY_ALL = ("image/jpeg", "image/png")
"""Image formats that every server decodes to the same pixels, if RGB and without EXIF rotation."""


@dataclass(frozen=True, kw_only=True)
class TurnRenderer(CallContext):
    """Converts conversations to requests without a tokenizer.

    Attributes:
        template_system: System text of the checkpoint's template; None: unknown.
        generation: `generation_config.json` of the checkpoint; empty: unknown.
    """

    template_system: str | None
    generation: Mapping[str, Any]

    def make_request(self, settings: CallSettings, turns: Sequence[Turn]) -> Request:
        """The request for the reply to a conversation.

        Raises:
            RequestTimeoutError: The deadline passed while media were read.
        """
        form = self.form
        files = self.file_reader()
        limits = TileLimits().narrowed(settings.min_tiles, settings.max_tiles)
        is_asked = settings.min_tiles is not None or settings.max_tiles is not None
        read = [
            replace(
                turn,
                parts=tuple(
                    self._encode(one, limits, is_asked=is_asked) if isinstance(one, Image) else one
                    for part in files.read(turn).parts
                    for one in self._shown(part)
                ),
            )
            for turn in with_instructions(
                with_system(order_tool_results(turns), self.template_system, self.options),
                form.schema_instructions(),
            )
        ]
        return Request(
            prompt_ids=(),
            turns=tuple(read),
            sampling=settings.sampling(self.generation),
            max_tokens=settings.max_tokens,
            stop=(settings.stop or ()) if form.is_plain else (),
            grammar=None if form.schema is None else json_grammar(form.schema),
            tools=disarm_json(form.openai_tools()),  # the server writes them into its prompt
            tool_choice=form.tool_choice,
            single_call=form.single_call,
            tool_format=HERMES if form.callable else None,
            template_kwargs=settings.chat_template_kwargs,
            choices=[Choice(text, ()) for text in form.choices],
            top_logprobs=settings.num_logprobs,
            timeout=self.deadline.remaining(),
            reasoning=settings.reasoning,
        )

    def call_stream(self, settings: CallSettings) -> CallStream | None:
        """The parser of tool calls in the reply's text; None: the reply has no tool calls."""
        if not self.form.callable:
            return None
        stop = (settings.stop or ()) if self.form.allows_text else ()
        return CallStream(HERMES, stop, must=self.form.requires_call)

    def _shown(self, part: Part) -> Iterator[Part]:
        """A part, or the frames of a video with their number of tiles."""
        if not isinstance(part, Video):
            yield part
            return
        most = part.max_tiles or self.options.max_tiles_per_frame
        for frame in part.frames:
            fewest = frame.min_tiles or 1
            yield replace(frame, min_tiles=fewest, max_tiles=frame.max_tiles or max(most, fewest))

    def _encode(self, image: Image, limits: TileLimits, *, is_asked: bool) -> Image:
        """An image as bytes that every server decodes to the same pixels."""
        source = image.source
        policy = self.policy
        if isinstance(source, UrlSource):  # downloaded here: the server must not fetch URLs
            data = source.read(self.deadline.narrow(policy))
            source = BytesSource(data, source.name)
        is_cut = is_asked or image.min_tiles is not None or image.max_tiles is not None
        own = limits.narrowed(image.min_tiles, image.max_tiles) if is_cut else None
        return use_rgb(
            source,
            policy,
            lambda rgb: _to_send(replace(image, source=source), rgb, own),
            exif_transpose=self.exif_transpose,
            scale_16bit=self.scale_16bit,
            white_background=self.white_background,
            deadline=self.deadline,
        )


def _to_send(image: Image, rgb: Picture, limits: TileLimits | None) -> Image:
    """An image as bytes that every server decodes to the same pixels.

    Args:
        image: The image.
        rgb: Its pixels.
        limits: Limits on its tiles, for which it is resized; None: the server chooses.
    """
    name = image.source.name
    if limits is not None:
        try:
            resized = _in_its_grid(rgb, limits)
        except MemoryError as error:
            raise no_memory(rgb.size, name) from error
        tiles = resized.width * resized.height // limits.tile_size**2
        sent = BytesSource(_png(resized), name)
        return replace(image, source=sent, min_tiles=tiles, max_tiles=tiles)
    if isinstance(image.source, BytesSource) and _is_read_alike(image.source.data, rgb):
        return image
    return replace(image, source=BytesSource(_png(rgb), name))


def check_for_server(form: ResponseFormat, options: PromptOptions, turns: Sequence[Turn]) -> None:
    """Refuse settings that servers do not support in prompts by messages.

    Args:
        form: Response format.
        options: Options of the prompt.
        turns: The conversation.

    Raises:
        RequestError: A setting has no counterpart on servers.
    """
    if form.choices:
        raise RequestError('a server cannot weigh choices; use backend="transformers"')
    if form.schema is not None and form.callable:
        raise RequestError(
            "a server enforces a response_format or lets tools be called, not both; leave out "
            "one of them, or use a backend in this process"
        )
    refuse_thoughts(form, thinks=options.reasoning)
    if options.image_order == "as_given":
        _refuse_text_before_images(turns)


def refuse_thoughts(form: ResponseFormat, *, thinks: bool) -> None:
    """Refuse reasoning before an enforced response format: the server would not permit it.

    Raises:
        RequestError: Reasoning is requested together with a JSON value or a forced tool call.
    """
    if thinks and (form.requires_call or form.schema is not None):
        raise RequestError(
            "a server that enforces a response_format or a call leaves no room for thoughts: leave "
            "out reasoning=True, or use a backend in this process"
        )


def _refuse_text_before_images(turns: Sequence[Turn]) -> None:
    """Refuse `image_order="as_given"` where a server's template would move an image.

    Raises:
        RequestError: Text precedes an image, video or document of its message.
    """
    for turn in turns:
        seen_text = False
        for part in turn.parts:
            if isinstance(part, Text):
                seen_text = True
            elif seen_text and not isinstance(part, Instruction):
                raise RequestError(
                    'image_order="as_given": a server prompted by messages puts the images of a '
                    "message before its text. Put the images first, leave the setting out, or "
                    'prompt by ids (server_prompt="ids", LMDeploy) or in this process'
                )


def _in_its_grid(rgb: Picture, limits: TileLimits) -> Picture:
    """An image resized to its tile grid, which servers cut into exactly these tiles."""
    from PIL.Image import Resampling  # noqa: PLC0415 - imported at first use

    size = limits.tile_size
    columns, rows = choose_grid(*rgb.size, limits.min_tiles, limits.max_tiles, size)
    return rgb.resize((columns * size, rows * size), Resampling.BICUBIC)


def _is_read_alike(data: bytes, rgb: Picture) -> bool:
    """Whether every server decodes the bytes to these pixels; only some apply EXIF rotation."""
    if sniff_mime_type(data) not in _TAKEN_BY_ALL:
        return False
    from PIL.Image import open as open_image  # noqa: PLC0415 - imported at first use

    with open_image(io.BytesIO(data)) as image:
        is_plain = image.mode == "RGB" and not image.has_transparency_data
        return is_plain and read_orientation(image) == 1 and image.size == rgb.size


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
