"""A chat model some of whose arguments come from the config of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableSerializable
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.configurable import RunnableConfigurableFields
from langchain_core.runnables.utils import ConfigurableFieldSingleOption
from typing_extensions import override

from langchain_internvl.chat_models.alternatives import AlternativesMethod, added
from langchain_internvl.chat_models.base import PreparedModel
from langchain_internvl.chat_models.tools import BoundModel, ToolBinding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.runnables.utils import AnyConfigurableField


class ConfigurableModel(
    ToolBinding, AlternativesMethod, RunnableConfigurableFields[LanguageModelInput, AIMessage]
):
    """Makes the configured model by `model_copy`, and binds tools and schemas to itself.

    LangChain's own class passes every argument to the constructor. There all of them count as given
    by the user: the default `streaming=False` would mean that `stream` yields one chunk. And it
    binds tools and schemas to the default model, which no config of a later call reaches; and a
    second `with_config` drops what the first one has set.

    Attributes:
        default: The model whose arguments the config replaces.
    """

    default: PreparedModel

    @classmethod
    @override
    def lc_id(cls) -> list[str]:
        """Stored as LangChain's own class."""
        return RunnableConfigurableFields.lc_id()

    @override
    def _prepare(
        self, config: RunnableConfig | None = None
    ) -> tuple[Runnable[LanguageModelInput, AIMessage], RunnableConfig]:
        config = ensure_config(config)
        given = config.get("configurable", {})
        update = {
            name: value for name, spec in self.fields.items() for value in _values_of(spec, given)
        }
        if not update:
            return self.default, config
        return self.default.model_copy(update=update), config

    @override
    def bind(self, **kwargs: Any) -> BoundModel:
        return BoundModel(bound=self, kwargs=kwargs, config={})

    @override
    def with_config(
        self, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return super().with_config(added(self.config, config), **kwargs)

    @override
    def _check(self, settings: dict[str, Any]) -> None:
        self.default._read_call(settings)  # noqa: SLF001 - the model's own check


class ConfigurableMethods(AlternativesMethod, PreparedModel):
    """The methods that make arguments configurable, or the model itself."""

    @override
    def configurable_fields(
        self, **kwargs: AnyConfigurableField
    ) -> RunnableSerializable[LanguageModelInput, AIMessage]:
        """Take arguments from the config of a call; see `RunnableSerializable`.

        Args:
            **kwargs: The fields by the name of the argument.

        Raises:
            ValueError: There is no argument of that name.
        """
        super().configurable_fields(**kwargs)  # checks the names
        return ConfigurableModel(default=self, fields=kwargs)


def _values_of(spec: AnyConfigurableField, given: Mapping[str, Any]) -> list[Any]:
    """The value that a field sets, as a list of one; empty: it sets none."""
    if isinstance(spec, ConfigurableField):
        return [given[spec.id]] if spec.id in given else []
    if isinstance(spec, ConfigurableFieldSingleOption):
        return [spec.options[given.get(spec.id) or spec.default]]
    return [[spec.options[one] for one in given.get(spec.id, spec.default)]]
