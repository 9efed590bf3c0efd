"""The toolkit of all vision tools."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.tools.ask_video import VideoQATool
from langchain_internvl.tools.base import hidden, warn_of_unknown
from langchain_internvl.tools.describe import DescribeImageTool
from langchain_internvl.tools.ground import GroundTool
from langchain_internvl.tools.pages import MOST_PAGES
from langchain_internvl.tools.read_text import ReadTextTool


class InternVLToolkit(BaseToolkit):
    """The four vision tools with one model.

    Attributes:
        llm: The vision model: a `ChatInternVL`.
        media_policy: Media that an agent may read; see `InternVLTool`.
        return_images: Also return images: the requested region, or the boxes drawn. Default false.
        pdf_password: Password of encrypted PDFs; see `InternVLTool`.
        most_pages: Most pages of a PDF or TIFF that are looked at where the agent names none;
            None: all. Default 10.
        font: A font file for the labels of boxes; None: an installed font with the characters.

    Example:
        ```python
        from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy

        toolkit = InternVLToolkit(
            llm=ChatInternVL(model="OpenGVLab/InternVL2-8B"),
            media_policy=MediaPolicy(roots=["scans"]),
        )
        agent = create_agent("anthropic:claude-sonnet-4-5", tools=toolkit.get_tools())
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # the input may have the password

    llm: BaseChatModel
    media_policy: MediaPolicy = Field(default_factory=MediaPolicy)
    return_images: bool = False
    pdf_password: SecretStr | str | None = Field(default=None, exclude=True, repr=False)
    most_pages: int | None = Field(default=MOST_PAGES, ge=1)
    font: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _warn_of_typos(cls, values: Any) -> Any:
        warn_of_unknown(cls, values)
        return values

    @field_validator("pdf_password", mode="before")
    @classmethod
    def _hide(cls, password: Any) -> Any:
        return hidden(password)

    def get_tools(self) -> list[BaseTool]:
        """`describe_image`, `read_text`, `ground` and `ask_video`."""
        shared: dict[str, Any] = {
            "llm": self.llm,
            "media_policy": self.media_policy,
            "return_images": self.return_images,
            "pdf_password": self.pdf_password,
            "most_pages": self.most_pages,
        }
        return [
            DescribeImageTool(**shared),
            ReadTextTool(**shared),
            GroundTool(**shared, font=self.font),
            VideoQATool(**shared),
        ]
