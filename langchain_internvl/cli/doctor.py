"""Checks the installation: packages, devices, a checkpoint, and what to install."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.markup import escape
from rich.table import Table

from langchain_internvl._version import __version__
from langchain_internvl.checkpoint import open_checkpoint
from langchain_internvl.errors import InternVLError
from langchain_internvl.media.video_readers import can_read

_PACKAGES = {
    "torch": ("transformers", "runs checkpoints"),
    "transformers": ("transformers", "runs checkpoints"),
    "xgrammar": ("transformers", "structured output"),
    "decord": ("video", "reads videos"),
    "av": ("video", "reads videos"),
    "pypdfium2": ("documents", "reads PDFs"),
    "pikepdf": ("documents", "finds damage of PDFs"),
    "bitsandbytes": ("quantization", "8 and 4 bits"),
    "peft": ("adapters", "adapters beside the weights"),
    "compressed-tensors": ("compressed-tensors", "weights stored as compressed-tensors"),
    "gptqmodel": ("gptq", "weights stored as AWQ or GPTQ"),
    "optimum": ("gptq", "weights stored as GPTQ"),
    "flash-attn": ("flash-attn", "faster attention on CUDA"),
    "lmdeploy": ("lmdeploy", "the LMDeploy backend"),
    "openai": ("server", "uses servers"),
    "mcp": ("mcp", "serves tools to MCP clients"),
    "langchain": ("agents", "ClearImagesMiddleware"),
    "docling-core": ("docling", "describes pictures of Docling's documents"),
    "rapidfuzz": ("documents", "cited places by reading; scores of benchmarks (evaluation)"),
    "pyarrow": ("parquet", "writes Parquet"),
    "ray": ("ray", "reads pages on many machines"),
}
"""Optional packages, the extra that installs each, and its purpose."""

_NEEDED = ("torch", "transformers")
"""Packages that the local backend requires."""

_DISTRIBUTION = "langchain-internvl"


@dataclass
class Report:
    """Results of the checks.

    Attributes:
        table: Table for the terminal.
        advice: Recommended actions, one sentence each.
        is_well: Whether the local backend can run, and also the checkpoint if one was named.
    """

    table: Table = field(default_factory=lambda: Table(show_header=False, box=None))
    advice: list[str] = field(default_factory=list)
    is_well: bool = True

    def add(self, name: str, found: str, *, is_well: bool | None = True) -> None:
        """Add a line; `is_well` is None for a missing optional package."""
        mark = {True: "[green]yes[/]", False: "[red]no[/]", None: "[dim]-[/]"}[is_well]
        self.table.add_row(mark, name, escape(found))
        self.is_well = self.is_well and is_well is not False


def examine(model: str | None = None) -> Report:
    """Check this machine.

    Args:
        model: A checkpoint to check too; only its small files are read. None: no checkpoint.
    """
    report = Report()
    report.add("langchain-internvl", f"{__version__}, Python {platform.python_version()}")
    missing: dict[str, list[str]] = {}
    for package, (extra, purpose) in _PACKAGES.items():
        found = _version(package)
        if found is None:
            missing.setdefault(extra, []).append(f"{package} ({purpose})")
            is_well = False if package in _NEEDED else None
            report.add(package, f"not installed: {purpose}", is_well=is_well)
        else:
            _add_version(report, package, extra, found)
    _base_packages(report)
    _devices(report)
    can = can_read()
    report.add("videos", "can be read" if can else "cannot be read", is_well=can or None)
    for extra, packages in missing.items():
        if extra != "video" or not can_read():  # one of its two is enough
            report.advice.append(
                f"For {', '.join(packages)}: pip install 'langchain-internvl[{extra}]'"
            )
    if report.advice:
        report.advice.append(f"In a clone, put . in place of {_DISTRIBUTION}.")
    if model is not None:
        _checkpoint(report, model)
    return report


def _add_version(report: Report, package: str, extra: str, found: str) -> None:
    """Add an installed package, and whether the extra allows its version."""
    allowed = _allowed_versions(package, extra)
    if allowed is None or allowed.contains(found, prereleases=True):
        report.add(package, found)
        return
    report.add(package, f"{found} does not work here: {package}{allowed} is needed", is_well=False)
    what = f"{_DISTRIBUTION}[{extra}]" if extra else _DISTRIBUTION
    report.advice.append(f"For {package}: pip install '{what}' '{package}{allowed}'")


def _base_packages(report: Report) -> None:
    """Check the required packages; only unsupported versions are reported."""
    for requirement in _requirements():
        if requirement.marker is None and requirement.name not in _PACKAGES:
            found = _version(requirement.name)
            if found is None:
                report.add(requirement.name, "not installed", is_well=False)
                report.advice.append(f"For {requirement.name}: pip install '{_DISTRIBUTION}'")
            elif not requirement.specifier.contains(found, prereleases=True):
                _add_version(report, requirement.name, "", found)


def _allowed_versions(package: str, extra: str) -> SpecifierSet | None:
    """The versions of a package that an extra allows; None: the extra does not limit them."""
    for requirement in _requirements():
        is_same = requirement.name.lower().replace("_", "-") == package
        is_meant = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if is_same and is_meant:
            return requirement.specifier
    return None


def _requirements() -> list[Requirement]:
    """Requirements from this package's metadata; empty if it is not installed."""
    try:
        return [Requirement(one) for one in requires(_DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices(report: Report) -> None:
    """Add the devices on which models run, and their attention implementation."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        report.add("device", f"torch cannot be imported: {error}", is_well=False)
        return
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if names:
        report.add("device", f"{len(names)} GPU(s): {', '.join(names)}")
    else:
        report.add("device", f"CPU, {torch.get_num_threads()} threads (no GPU was found)")
    report.add("attention", _attention(torch))


def _attention(torch: Any) -> str:
    from langchain_internvl.backends.transformers.placement import can_use_flash_attention

    gpus = [torch.cuda.get_device_capability(gpu) for gpu in range(torch.cuda.device_count())]
    is_installed = _version("flash-attn") is not None
    flash = can_use_flash_attention("bfloat16", "auto", gpus, is_installed=is_installed)
    return "flash-attention in 16 bits, else SDPA" if flash else "SDPA"


def _checkpoint(report: Report, model: str) -> None:
    try:
        checkpoint = open_checkpoint(model)
    except (InternVLError, ImportError) as error:
        report.add(model, str(error), is_well=False)
        return
    form = "original format" if checkpoint.is_original else "-hf format"
    about = f"{form}, {checkpoint.language_model}, {checkpoint.stored_dtype or 'dtype as stored'}"
    report.add(model, f"{about}, up to {checkpoint.tiles.max_tiles} tiles an image")
