"""Requests by token ids: renders a conversation, tokenises it and cuts its images into tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_internvl.backends.base import Choice, Request
from langchain_internvl.errors import RequestError
from langchain_internvl.media.images import read_size, use_rgb
from langchain_internvl.media.lazy_tiles import ImageTiles, TileList, hash_bytes, hash_pixels
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.pixels import no_memory
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.prompting.build import build_prompt, with_think_suffix
from langchain_internvl.prompting.context_window import fit_reply
from langchain_internvl.prompting.reply_ids import encode_prompt, replies_of
from langchain_internvl.prompting.tool_formats import ToolFormat, get_tool_format
from langchain_internvl.prompting.tool_results import order_tool_results
from langchain_internvl.reply_text.reasoning import (
    EMPTY_THOUGHT,
    LEVELS,
    Reasoning,
)
from langchain_internvl.requests.call_context import CallContext
from langchain_internvl.tool_calling.call_stream import CallStream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture

    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.media.tiling import TileLimits
    from langchain_internvl.messages.conversation import Image, Turn
    from langchain_internvl.prompting.segments import Prompt
    from langchain_internvl.prompting.templates import ChatTemplate
    from langchain_internvl.prompting.tokenization import PromptTokenizer
    from langchain_internvl.settings.call import CallSettings


@dataclass(frozen=True, kw_only=True)
class Renderer(CallContext):
    """Renders conversations for one checkpoint, without its weights.

    Attributes:
        checkpoint: The checkpoint.
        tokenizer: Its tokenizer.
        template: The chat template: the checkpoint's own, or the chosen one.
        tiles: Limits on the number of tiles, unless an image's block sets them.
        reasoning: Reasoning mode.
    """

    checkpoint: Checkpoint
    tokenizer: PromptTokenizer
    template: ChatTemplate
    tiles: TileLimits
    reasoning: Reasoning = "auto"

    @property
    def tools(self) -> ToolFormat:
        """The tool format of the language model."""
        return get_tool_format(self.checkpoint.language_model)

    def prompt(self, turns: Sequence[Turn]) -> Prompt:
        """Render a conversation with the frames of its videos and the pages of its PDFs."""
        files = self.file_reader()
        turns = [files.read(turn) for turn in order_tool_results(turns)]
        instructions = self.form.instructions(self.tools, self.template.system.close)
        options = replace(self.options, reply_start=self._reply_start())
        if options.reasoning and self.checkpoint.is_qianfan_ocr:
            options, turns = replace(options, reasoning=False), with_think_suffix(turns)
        if self.reasoning in LEVELS and self.template.effort_system is not None:
            effort_text = self.template.effort_system.format(effort=self.reasoning)
            options = replace(options, reasoning_system=effort_text)
        replies = replies_of(self.tokenizer)
        return build_prompt(
            turns, self.template, options, self.tools, instructions, replies=replies
        )

    def _reply_start(self) -> str:
        """The prefix of the reply.

        Raises:
            RequestError: A reasoning level is set, and the checkpoint has no levels.
        """
        if self.reasoning in LEVELS and self.template.effort_system is None:
            raise RequestError(
                f"reasoning={self.reasoning!r}: {self.checkpoint.folder} has no levels of "
                "reasoning (InternVL3.5's gpt-oss models have them); set it to True, False or "
                "'auto'"
            )
        if self.template.channels is not None:
            is_bound = not self.form.is_plain or bool(self.form.choices)
            return self.template.channels.answer if self.reasoning is False or is_bound else ""
        is_off = self.reasoning is False and self.checkpoint.thinks_unasked
        return EMPTY_THOUGHT if is_off else ""

    def to_text(self, prompt: Prompt, *, expand: bool = False) -> str:
        """The prompt as text; with `expand`, with all image context tokens."""
        return prompt.to_text(self.count_tokens(prompt) if expand else None)

    def to_ids(self, prompt: Prompt) -> list[int]:
        """The prompt as token ids."""
        return encode_prompt(self.tokenizer, prompt, self.count_tokens(prompt))

    def count_tokens(self, prompt: Prompt) -> list[int]:
        """Number of context tokens of each image; only the sizes of the images are read."""
        return [
            self._limits(image).count(
                *read_size(image.source, self.policy, exif_transpose=self.exif_transpose)
            )
            * self.checkpoint.tokens_per_tile
            for image in prompt.images
        ]

    def tile_images(self, prompt: Prompt, context_tokens: Sequence[int]) -> TileList:
        """The tiles of the prompt's images, cut on access.

        Args:
            prompt: A prompt from `fetch_images`.
            context_tokens: Number of context tokens of each image, from `count_tokens`.
        """
        per_tile = self.checkpoint.tokens_per_tile
        return TileList(
            self._tiles_of(image, tokens // per_tile)
            for image, tokens in zip(prompt.images, context_tokens, strict=True)
        )

    def _tiles_of(self, image: Image, count: int) -> ImageTiles:
        # All inputs of `_cut` besides the image itself.
        options = (
            self._limits(image), self.exif_transpose, self.scale_16bit, self.white_background
        )  # fmt: skip
        source = image.source
        if isinstance(source, BytesSource):
            return ImageTiles(hash_bytes(source.sha256, options), count, lambda: self._cut(image))
        # A frame or a page: the smaller of its pixels and its tiles is kept while it waits.
        width, height = read_size(source, self.policy)
        if width * height >= count * self.tiles.tile_size**2:
            return ImageTiles.of_array(self._cut(image))
        import numpy as np  # noqa: PLC0415 - imported at first use

        # Images that the reference shows alike may differ in depth or transparency.
        key = hash_pixels(self._use(image, np.asarray), options)
        return ImageTiles(key, count, lambda: self._cut(image))

    def fetch_images(self, prompt: Prompt) -> Prompt:
        """The prompt with the bytes of its images, downloaded or read from their files.

        Images are read once, so they cannot change between counting and cutting their tiles.

        Raises:
            MediaError: An image cannot be downloaded or read.
            RequestTimeoutError: The deadline has passed.
        """
        return replace(prompt, images=tuple(map(self._fetch, prompt.images)))

    def _fetch(self, image: Image) -> Image:
        source = image.source
        if isinstance(source, BytesSource):
            return image
        if isinstance(source, PixelSource):
            data = source.undecoded(self.policy, self.deadline)
            return image if data is None else replace(image, source=BytesSource(data, source.name))
        data = source.read(self.deadline.narrow(self.policy))
        return replace(image, source=BytesSource(data, source.name))

    def _cut(self, image: Image) -> NDArray[np.uint8]:
        limits = self._limits(image)

        def cut(rgb: Picture) -> NDArray[np.uint8]:
            try:
                return limits.cut(rgb)
            except MemoryError as error:
                raise no_memory(rgb.size, image.source.name) from error

        return self._use(image, cut)

    def _use(self, image: Image, use: Callable[[Picture], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Call a function with an image as RGB, in an image thread."""
        return use_rgb(
            image.source,
            self.policy,
            use,
            exif_transpose=self.exif_transpose,
            scale_16bit=self.scale_16bit,
            white_background=self.white_background,
            deadline=self.deadline,
        )

    def _limits(self, image: Image) -> TileLimits:
        """The model's tile limits, overridden by those of the image's block."""
        return self.tiles.narrowed(image.min_tiles, image.max_tiles)


def make_request(
    settings: CallSettings,
    renderer: Renderer,
    turns: Sequence[Turn],
) -> Request:
    """The request for the reply to a conversation.

    Raises:
        ContextOverflowError: The conversation is too long for the model.
        MediaError: A medium cannot be used.
        RequestError: Settings contradict each other, such as choices together with reasoning.
        RequestTimeoutError: Reading media took longer than the timeout.
        SchemaError: A schema cannot be enforced.
    """
    form, tools = renderer.form, renderer.tools
    if form.choices and settings.thinks:
        raise RequestError("choices leave no room for thoughts: reasoning must be False or 'auto'")
    if settings.chat_template_kwargs:
        raise RequestError(
            "chat_template_kwargs are for a server that writes the prompt by its own template "
            '(base_url=..., server_prompt="messages"); here the prompt is written by chat_template'
        )
    prompt = renderer.fetch_images(renderer.prompt(turns))
    template = renderer.template
    stop_ids = {renderer.tokenizer.stop_id(template.stop)}
    if template.stops_at_eos:
        stop_ids.update(renderer.checkpoint.eos_ids)
    # Counted before any image is decoded, so that prompts that are too long fail early.
    context_tokens = renderer.count_tokens(prompt)
    prompt_ids = encode_prompt(renderer.tokenizer, prompt, context_tokens)
    window = settings.context_window or renderer.tokenizer.model_max_length
    max_tokens = fit_reply(
        window or renderer.checkpoint.max_length,
        prompt,
        len(prompt_ids),
        context_tokens,
        settings.max_tokens,
    )
    return Request(
        prompt_ids=prompt_ids,
        tiles=renderer.tile_images(prompt, context_tokens),
        sampling=settings.sampling(renderer.checkpoint.generation),
        max_tokens=max_tokens,
        stop_ids=frozenset(stop_ids),
        stop=_stop_texts(settings, renderer) if form.is_plain else (),
        top_logprobs=settings.num_logprobs,
        timeout=renderer.deadline.remaining(),
        grammar=form.grammar(tools, thinks=settings.thinks),
        markup=renderer.tokenizer.special_bytes(*_shown_marks(renderer)),
        choices=[_choice(text, renderer) for text in form.choices],
        tools=form.openai_tools() if form.requires_call else (),
        tool_choice=form.tool_choice,
        tool_format=tools if form.callable else None,
    )


def _shown_marks(renderer: Renderer) -> tuple[str, ...]:
    """Texts whose special tokens delimit the parts of a reply."""
    if renderer.form.callable:
        tools = renderer.tools
        return tools.trigger, tools.open_call, tools.close_call
    channels = renderer.template.channels
    # Under a grammar, and where choices are weighed, the reply is begun in the answer's channel.
    return channels.marks if channels is not None and renderer.form.is_plain else ()


def _choice(text: str, renderer: Renderer) -> Choice:
    tokenizer = renderer.tokenizer
    return Choice(text, (*tokenizer.encode_text(text), tokenizer.stop_id(renderer.template.stop)))


def call_stream(settings: CallSettings, renderer: Renderer) -> CallStream | None:
    """The parser of tool calls in a reply; None: the reply has no tool calls."""
    form = renderer.form
    if not form.callable:
        return None
    stop = _stop_texts(settings, renderer) if form.allows_text else ()
    either = form.schema is not None
    return CallStream(renderer.tools, stop, either=either, must=form.requires_call)


def _stop_texts(settings: CallSettings, renderer: Renderer) -> list[str]:
    """The stop strings of plain text."""
    return [renderer.template.stop, *(settings.stop or ())]
