"""Choice and options of the LMDeploy engine for a checkpoint."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from langchain_internvl._optional import require
from langchain_internvl.errors import RequestError

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint

_ONLY_PYTORCH = frozenset({"phi3"})
"""Language models that TurboMind cannot run although its `is_supported()` accepts the checkpoint:
phi3 (InternVL2-4B)."""

_DTYPES = ("auto", "float16", "bfloat16")


@dataclass(frozen=True)
class EngineOptions:
    """Options of an LMDeploy engine.

    Attributes:
        dtype: Data type of the weights: auto, float16 or bfloat16.
        given: Fields of LMDeploy's `TurbomindEngineConfig` or `PytorchEngineConfig`, as pairs; and
            `engine`, "turbomind" or "pytorch".
    """

    dtype: str = "auto"
    given: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def from_mapping(cls, dtype: str, options: Mapping[str, Any]) -> EngineOptions:
        """Options from `engine_options`.

        Raises:
            RequestError: LMDeploy does not support the data type or has no such engine.
        """
        if dtype not in _DTYPES:
            raise RequestError(
                f"LMDeploy computes in {', '.join(_DTYPES)}, not {dtype!r}; use "
                'backend="transformers" for it'
            )
        engine = options.get("engine", "turbomind")
        if engine not in {"turbomind", "pytorch"}:
            raise RequestError(f'engine is "turbomind" or "pytorch", not {engine!r}')
        return cls(dtype, tuple(sorted(options.items(), key=lambda item: item[0])))

    def config(self, checkpoint: Checkpoint, window: int | None) -> Any:
        """The engine config of LMDeploy.

        Args:
            checkpoint: The checkpoint to run.
            window: Context window in tokens, prompt and reply together; None: LMDeploy's default,
                which ignores the scaling factor of dynamic RoPE.

        Raises:
            ImportError: The extra `lmdeploy` is not installed.
            RequestError: The engine has no such option, or rejects its value.
        """
        lmdeploy = require("lmdeploy", extra="lmdeploy")
        options = dict(self.given)
        default = "pytorch" if needs_pytorch_engine(checkpoint) else "turbomind"
        engine = options.pop("engine", default)
        kinds = (lmdeploy.TurbomindEngineConfig, lmdeploy.PytorchEngineConfig)
        kind = kinds[engine == "pytorch"]
        known = [field.name for field in fields(kind)]
        for name in options.keys() - set(known):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RequestError(f"LMDeploy's {engine} engine has no option {name!r}{hint}")
        ours = {"dtype": self.dtype, "session_len": window}
        if engine == "turbomind":
            ours["enable_prefix_caching"] = True
        try:
            return kind(**{**ours, **options})
        except (AssertionError, TypeError, ValueError) as error:
            raise RequestError(f"engine_options of LMDeploy's {engine} engine: {error}") from error


def needs_pytorch_engine(checkpoint: Checkpoint) -> bool:
    """Whether the language model needs LMDeploy's PyTorch engine, because TurboMind lacks it."""
    return checkpoint.language_model in _ONLY_PYTORCH
