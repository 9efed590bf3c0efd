"""Chat models of which the config of a call chooses one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableSerializable
from langchain_core.runnables.configurable import RunnableConfigurableAlternatives
from langchain_core.runnables.utils import Input, Output
from typing_extensions import override

Model = Runnable[LanguageModelInput, AIMessage]


class AlternativesMethod:
    """The method that makes a model one of several alternatives."""

    def configurable_alternatives(
        self,
        which: ConfigurableField,
        *,
        default_key: str = "default",
        prefix_keys: bool = False,
        **kwargs: Model | Callable[[], Model],
    ) -> RunnableSerializable[LanguageModelInput, AIMessage]:
        """Let the config of a call choose this model or another; see `RunnableSerializable`.

        Args:
            which: The field of the config.
            default_key: Its value for this model, which is also the default.
            prefix_keys: Whether fields of the models are prefixed in the config.
            **kwargs: The other models, or functions that make them, by the value of the field.
        """
        return AlternativeModels(
            which=which,
            default=cast("RunnableSerializable[LanguageModelInput, AIMessage]", self),
            alternatives=kwargs,
            default_key=default_key,
            prefix_keys=prefix_keys,
        )


class AlternativeModels(  # type: ignore[misc] # of chat models alone, which pydantic cannot check
    AlternativesMethod, RunnableConfigurableAlternatives[Input, Output]
):
    """Binds settings, tools and schemas to every model.

    LangChain's own class binds tools and schemas to the default model, and no config of a later
    call reaches the others; and a second `with_config` drops what the first one has set.
    """

    @classmethod
    @override
    def lc_id(cls) -> list[str]:
        """Stored as LangChain's own class."""
        return RunnableConfigurableAlternatives.lc_id()

    @override
    def bind(self, **kwargs: Any) -> Runnable[Input, Output]:
        return self._each("bind", **kwargs)

    @override
    def with_config(
        self, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Runnable[Input, Output]:
        return super().with_config(added(self.config, config), **kwargs)

    def bind_tools(self, *args: Any, **kwargs: Any) -> Model:
        """Bind tools to every model; see the models' own `bind_tools`."""
        return self._each("bind_tools", *args, **kwargs)

    def with_structured_output(self, *args: Any, **kwargs: Any) -> Runnable[Any, Any]:
        """Constrain the replies of every model; see the models' own `with_structured_output`."""
        return self._each("with_structured_output", *args, **kwargs)

    def _each(self, method: str, *args: Any, **kwargs: Any) -> Runnable[Any, Any]:
        """The alternatives with the result of a method in place of each model."""
        bound = {
            key: _call(one, method, *args, **kwargs)
            if isinstance(one, Runnable)
            else partial(_call_later, one, method, *args, **kwargs)
            for key, one in self.alternatives.items()
        }
        default = _call(self.default, method, *args, **kwargs)
        return type(self)(**{**self.__dict__, "default": default, "alternatives": bound})


def added(bound: RunnableConfig | None, given: RunnableConfig | None) -> RunnableConfig:
    """A bound config with what another sets, as the bindings of LangChain add it."""
    return cast("RunnableConfig", {**(bound or {}), **(given or {})})


def _call(model: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(model, method)(*args, **kwargs)


def _call_later(make: Callable[[], Any], method: str, *args: Any, **kwargs: Any) -> Any:
    return _call(make(), method, *args, **kwargs)
