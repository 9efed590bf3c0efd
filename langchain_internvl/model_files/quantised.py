"""Weights that are stored quantised: what the config says of them, and which package runs them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_internvl._optional import how_to_install, is_installed
from langchain_internvl.errors import UnsupportedCheckpointError

_SUFFIXES = (".qweight", ".weight_packed", ".weight_scale")
"""Ends of tensor names that quantised layers have, and others do not."""


@dataclass(frozen=True)
class StoredMethod:
    """A method of quantisation.

    Attributes:
        packages: Packages that the transformers backend needs for it; empty: it has none.
        extra: The extra of this package that installs them.
        advice: Engine that runs such weights otherwise.
    """

    packages: tuple[str, ...]
    extra: str
    advice: str


_BY_LMDEPLOY = (
    "load it with LMDeploy: backend='lmdeploy', engine_options={{'model_format': '{method}'}}, "
    f"in an environment of its own: {how_to_install('lmdeploy')}"
)
_BY_VLLM = "serve it by vLLM and name the server as base_url="

_METHODS: Mapping[str, StoredMethod] = {
    "awq": StoredMethod(("gptqmodel",), "gptq", _BY_LMDEPLOY),
    "gptq": StoredMethod(("gptqmodel", "optimum"), "gptq", _BY_LMDEPLOY),
    "compressed-tensors": StoredMethod(("compressed_tensors",), "compressed-tensors", _BY_VLLM),
}
"""Methods by `quant_method`."""

_OTHER = StoredMethod((), "", _BY_VLLM)


def stored_quantization(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The quantisation of the stored weights; None: they are not quantised.

    Args:
        config: `config.json`. Some tools write it into the section of the language model.
    """
    sections = (config, config.get("llm_config") or {}, config.get("text_config") or {})
    found = next(filter(None, (one.get("quantization_config") for one in sections)), None)
    return dict(found) if found else None


def method_of(stored: Mapping[str, Any]) -> str:
    """Name of the method, for comparisons and messages."""
    return str(stored.get("quant_method", "unknown method"))[:100]


def refuse_quantised(config: Mapping[str, Any], folder: Path) -> None:
    """Reject quantised weights that transformers cannot run here.

    Raises:
        UnsupportedCheckpointError: The method is unknown, or its packages are not installed.
    """
    stored = stored_quantization(config)
    if stored is None:
        return
    name = method_of(stored)
    method = _METHODS.get(name, _OTHER)
    missing = [one for one in method.packages if not is_installed(one)]
    # llm-compressor's configs always have groups; AutoAWQ's and GPTQ's always have the bits.
    needed = "config_groups" if name == "compressed-tensors" else "bits"
    if method.packages and not missing and needed in stored:
        return
    local = (
        f"install what it needs here ({', '.join(method.packages)}): "
        f"{how_to_install(method.extra)}; or "
        if missing
        else ""
    )
    raise UnsupportedCheckpointError(
        f"{folder} is stored quantised ({name}), which backend='transformers' does not load"
        f"{' as installed' if missing else ''}: {local}{method.advice.format(method=name)}; or "
        "load the checkpoint that it was made from, whose name has no -AWQ, -GPTQ, -FP8 or the "
        f"like, with quantization='4bit' or '8bit': {how_to_install('quantization')}"
    )


def quantised_modules(names: Collection[str]) -> frozenset[str]:
    """Names of the modules whose weights are stored quantised, from names of tensors."""
    return frozenset(
        name.removesuffix(suffix) for name in names for suffix in _SUFFIXES if name.endswith(suffix)
    )
