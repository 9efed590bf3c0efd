"""Settings of a reply: constructor arguments that a single call may override."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from langchain_internvl.backends.base import GREATEST_SEED, LEAST_SEED, Sampling
from langchain_internvl.errors import RequestError, did_you_mean
from langchain_internvl.media.tiling import MOST_TILES, TileLimits
from langchain_internvl.prompting.build import ImageOrder, PromptOptions
from langchain_internvl.reply_text.reasoning import Reasoning, asks_to_think
from langchain_internvl.settings.descriptions import describe_fields
from langchain_internvl.tool_calling.response_format import RESPONSE_SETTINGS

DEFAULT_MAX_TOKENS = 1024


@describe_fields
class CallSettings(BaseModel):
    """Arguments of `ChatInternVL` that a single call may override."""

    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Temperature; 0: greedy. None: the checkpoint's, or 1 if `top_p` or `top_k` is set."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus sampling: cumulative probability of the likeliest tokens. None: the checkpoint's."""
    top_k: int | None = Field(default=None, ge=0)
    """Number of likeliest tokens to sample from; 0: all. None: the checkpoint's."""
    repetition_penalty: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Penalty factor for tokens already in the reply; 1: off. None: the checkpoint's."""
    seed: int | None = Field(default=None, ge=LEAST_SEED, le=GREATEST_SEED)
    """Seed of sampling: the reply is reproducible, independent of concurrent requests. (With 16-bit
    weights it decodes in a batch of one, because the batch size changes rounding.)"""
    max_tokens: int = Field(default=DEFAULT_MAX_TOKENS, ge=1)
    """Maximum number of tokens of a reply. None: 1024, the default, as LangChain models read it."""
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    """Stop strings; they end a reply and are removed from it. They do not apply to JSON values of a
    `response_format` or to forced tool calls."""
    logprobs: bool | None = None
    """Report log probabilities in `response_metadata["logprobs"]`, in OpenAI's format, for every
    generated token, including tokens of a removed stop string. None: if `top_logprobs` is given.
    False together with `top_logprobs` raises, as in OpenAI's API; one of the two in a call
    overrides the other one of the model."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """Number of likeliest tokens to report at each position in addition."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds until a call fails, including reading media and loading; None: no limit."""

    min_tiles: int | None = Field(default=None, ge=1, le=MOST_TILES)
    """Minimum tiles of an image; None: the checkpoint's. A block's `min_tiles` overrides it."""
    max_tiles: int | None = Field(default=None, ge=1, le=MOST_TILES)
    """Maximum tiles of an image; None: the checkpoint's. A block's `max_tiles` overrides it."""
    max_tiles_per_frame: int = Field(default=1, ge=1, le=MOST_TILES)
    """Maximum number of tiles of a video frame."""
    num_frames: int = Field(default=8, ge=1)
    """Number of frames sampled from a video file. A block's `num_frames` overrides it."""
    number_images: bool = True
    """Write `Image-k: ` before each image, if the conversation has more than one so far."""
    join_images: bool = False
    """Put all images of a message between one pair of image tokens."""
    image_order: ImageOrder = "auto"
    """"auto": if a message's whole text precedes its media, media go first; "as_given": never."""
    exif_transpose: bool = False
    """Apply the EXIF orientation of images; the reference ignores it."""
    scale_16bit: bool = False
    """Scale 16-bit grey images to 8 bits; the reference clips values over 255 to white."""
    white_background: bool = False
    """Composite transparent images on white, or on black where nothing would be seen on white; the
    reference drops alpha, so that transparent pixels have their stored colour, often black."""
    default_system: str | None = "template"
    """System text if the messages have none; "template": the template's; None: no system turn."""
    reasoning: Reasoning = "auto"
    """True: request thinking by InternVL3.5's own system text, which replaces the template's or
    precedes that of the messages or `default_system`. False: no thinking; the reply of a model that
    may think by default (InternVL3.5) starts with an empty thought. "auto": neither. "low",
    "medium", "high": reasoning effort, for models with levels (InternVL3.5's gpt-oss, and models of
    servers); other checkpoints raise. A server that takes messages also gets
    `chat_template_kwargs={"enable_thinking": ...}` or `reasoning_effort`. Thoughts are always
    separated from the reply's text: they are in `content_blocks`, and left out of later turns."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Chat template arguments for a server that writes the prompt itself (not mlx-vlm), such as
    `{"enable_thinking": True}`."""
    context_window: int | None = Field(default=None, ge=1)
    """Maximum tokens of prompt and reply together. None: the limit of the tokenizer or config."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse True and False as numbers, which pydantic reads as 1 and 0."""
        kinds = _types_of(cls.model_fields[str(info.field_name)].annotation)
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"a number, not {value}")
        return value

    @field_validator("max_tokens", mode="before")
    @classmethod
    def _default_max_tokens(cls, value: Any) -> Any:
        return DEFAULT_MAX_TOKENS if value is None else value

    @field_validator("stop", mode="before")
    @classmethod
    def _list_one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_tiles(self) -> Self:
        TileLimits().narrowed(self.min_tiles, self.max_tiles)
        return self

    @model_validator(mode="after")
    def _check_logprobs(self) -> Self:
        if self.logprobs is False and self.top_logprobs is not None:
            raise ValueError("top_logprobs needs logprobs, which is False; leave one of them out")
        return self

    def for_call(self, overrides: Mapping[str, Any]) -> CallSettings:
        """These settings with the overrides of one call.

        Args:
            overrides: Values by name.

        Raises:
            RequestError: A setting is unknown, cannot be changed in a call, or has a value of the
                wrong type or out of range.
        """
        known = CallSettings.model_fields
        unknown = sorted(overrides.keys() - known.keys())
        if unknown:
            names = [*known, *RESPONSE_SETTINGS]
            hints = (did_you_mean(one, names) for one in unknown if one not in names)
            raise RequestError(
                f"a call of ChatInternVL takes no {', '.join(unknown)}"
                f"{next(filter(None, hints), '')}; it takes {', '.join(names)}"
            )
        own = {name: getattr(self, name) for name in known}
        given = self.model_fields_set  # explicit values stay distinct from defaults
        defaults = {name: one.get_default(call_default_factory=True) for name, one in known.items()}
        own = {name: one for name, one in own.items() if name in given or one != defaults[name]}
        if overrides.get("max_tokens", 0) is None:  # LangChain passes None for "not set"
            overrides = {name: one for name, one in overrides.items() if name != "max_tokens"}
        try:
            return CallSettings.model_validate({**without_superseded(own, overrides), **overrides})
        except ValidationError as error:
            wrong = (
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"]
                for one in error.errors()
            )
            raise RequestError(f"bad settings of a call: {'; '.join(wrong)}") from error

    @property
    def num_logprobs(self) -> int | None:
        """Number of likeliest tokens to report at each position; None: no log probabilities."""
        if self.top_logprobs is None:
            return 0 if self.logprobs else None
        return self.top_logprobs

    def sampling(self, generation: Mapping[str, Any]) -> Sampling:
        """Sampling parameters: these settings, then the checkpoint's values, then greedy.

        Args:
            generation: `generation_config.json` of the checkpoint.
        """

        def setting(name: str, default: float) -> Any:
            own = getattr(self, name)
            stored = generation.get(name)
            return own if own is not None else default if stored is None else stored

        asked = self.temperature is not None or self.top_p is not None or self.top_k is not None
        samples = asked or bool(generation.get("do_sample"))
        return Sampling(
            temperature=setting("temperature", 1.0) if samples else 0.0,
            top_p=setting("top_p", 1.0),
            top_k=setting("top_k", 0),
            repetition_penalty=setting("repetition_penalty", 1.0),
            seed=self.seed,
        )

    @property
    def thinks(self) -> bool:
        """Whether thinking is requested."""
        return asks_to_think(self.reasoning)

    def prompt_options(self) -> PromptOptions:
        """Options for writing media into prompts."""
        return PromptOptions(
            number_images=self.number_images,
            join_images=self.join_images,
            image_order=self.image_order,
            default_system=self.default_system,
            reasoning=self.thinks,
            max_tiles_per_frame=self.max_tiles_per_frame,
        )

    def tile_limits(self, own: TileLimits) -> TileLimits:
        """Minimum and maximum number of tiles of an image.

        Args:
            own: The checkpoint's limits.
        """
        return own.narrowed(self.min_tiles, self.max_tiles)


def without_superseded(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that newer ones contradict: `logprobs` and `top_logprobs`.

    Args:
        own: The settings.
        given: The newer settings.
    """
    superseded = set()
    if given.get("logprobs") is False:
        superseded.add("top_logprobs")
    if given.get("top_logprobs") is not None:
        superseded.add("logprobs")
    return {name: value for name, value in own.items() if name not in superseded}


def _types_of(annotation: Any) -> set[Any]:
    """The types in an annotation such as `int | None`; of a Literal, those of its values."""
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        return set(map(type, inner))
    if get_origin(annotation) in {Union, UnionType, Annotated}:
        return set().union(*map(_types_of, inner))
    return {annotation} if isinstance(annotation, type) else set()
