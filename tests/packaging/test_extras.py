"""Every extra installs in a clean environment, and each lower bound is a version that resolves."""

from importlib.metadata import version

import pytest
import tomllib
from conftest import ROOT, UV, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.packaging

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

SMOKE = {
    "video": "import av",
    "documents": "import pypdfium2",
    "cli": "from langchain_internvl.cli.app import app",
    "mcp": "import mcp, langchain_internvl.tools.mcp_server",
    "evaluation": "from langchain_internvl.evaluation import anls; assert anls('a', 'a') == 1",
    "docling": "import docling_core.types.doc, langchain_internvl.documents.docling",
    "server": "import openai",
    "agents": "from langchain_internvl.documents import ClearImagesMiddleware",
    "parquet": "import pyarrow.parquet",
    "ray": "import ray.data.checkpoint",
    "searchable-pdf": "import pikepdf",
}


@pytest.mark.parametrize("extra", SMOKE)
def test_an_extra_installs_alone(environment, wheel, extra):
    environment.install(f"langchain-internvl[{extra}] @ {wheel.as_uri()}")
    done = environment.run(SMOKE[extra])
    assert done.returncode == 0, done.stderr


def test_every_extra_is_installed_by_a_test():
    # LMDeploy's has `make resolve`; flash-attn builds from source, for a GPU.
    # The other three need torch, too.
    elsewhere = {
        "transformers", "all", "quantization", "lmdeploy", "flash-attn",
        "adapters", "compressed-tensors", "gptq",
    }  # fmt: skip
    assert SMOKE.keys() | elsewhere == EXTRAS.keys()


@pytest.mark.parametrize("resolution", ["lowest", "highest"])
def test_all_of_them_describe_an_image(with_torch, wheel, tmp_path, resolution):
    """At the lowest allowed version of each requirement, then at the highest; torch apart."""
    constraints = tmp_path / "constraints.txt"
    torch = version("torch").split("+")[0]
    constraints.write_text(f"torch=={torch}\n", "utf-8")
    if resolution == "lowest":
        kept = {canonicalize_name(Requirement(one).name) for one in _direct("all")} - {"torch"}
        rows = [f"{name}=={found}" for name, found in _lowest("all").items() if name in kept]
        constraints.write_text("\n".join([f"torch=={torch}", *rows]), "utf-8")
    with_torch.install(
        *(
            "--upgrade",
            "--constraint",
            constraints,
            f"langchain-internvl[all,quantization] @ {wheel.as_uri()}",
        )
    )
    image = ROOT / "cookbook" / "shapes.png"
    done = run(with_torch.bin / "langchain-internvl", "describe", image, "--model", "nano")
    assert "circle" in done.stdout


@pytest.mark.parametrize("extra", [None, *(one for one in EXTRAS if one != "flash-attn")])
def test_every_lower_bound_resolves(extra, tmp_path):
    """Each alone, with whatever versions of the others go with it."""
    for requirement in map(Requirement, EXTRAS[extra] if extra else PROJECT["dependencies"]):
        for one in requirement.specifier:
            if one.operator == ">=":
                pin = tmp_path / f"{requirement.name}.txt"
                pin.write_text(f"{requirement.name}=={one.version}", "utf-8")
                _compile(extra, "--constraint", pin)


def _lowest(extra):
    """The lowest versions that resolve together, by name of the project."""
    lines = _compile(extra, "--resolution", "lowest-direct").splitlines()
    pairs = (line.split(" ;")[0].split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): found for name, found in pairs}


def _compile(extra, *options):
    command = (*UV, "compile", "--quiet", "--no-annotate", "--no-header", "pyproject.toml")
    extras = ("--extra", extra) if extra else ()
    return run(*command, "--python-version", "3.11", *extras, *options, cwd=ROOT).stdout


def _direct(extra):
    """Requirements of the base and of an extra, those of extras that it names included."""
    yield from PROJECT["dependencies"]
    pending = [extra]
    while pending:
        for line in EXTRAS[pending.pop()]:
            requirement = Requirement(line)
            if requirement.name == "langchain-internvl":
                pending += requirement.extras
            else:
                yield line


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.14"])
def test_the_pins_of_development_resolve(python):
    # Pages are built and checked on a newer Python.
    names = ("test",) if python == "3.10" else ("test", "lint", "docs", "packaging")
    groups = [part for name in names for part in ("--group", name)]
    run(
        *(*UV, "compile", "--quiet", "--no-header", "pyproject.toml", "--extra", "all", *groups),
        *("--constraint", "constraints.txt", "--python-version", python),
        cwd=ROOT,
    )


def test_bridges_to_packages_that_the_development_environment_cannot_hold(with_torch, wheel):
    """supervision brings OpenCV; langchain-mcp-adapters wants mcp 1.x, the environment has 2.x."""
    with_torch.install(
        f"langchain-internvl[all,mcp,server] @ {wheel.as_uri()}",
        *("supervision", "langchain-mcp-adapters", "mcp<2"),
        *("openinference-instrumentation-langchain", "opentelemetry-sdk"),
        *("pytest", "pytest-asyncio", "pytest-socket", "hypothesis", "langchain", "font-manrope"),
    )
    tests = ROOT / "tests"
    done = run(
        *(with_torch.python, "-m", "pytest", "-q", "-rs", "--rootdir", ROOT),
        *("-o", "addopts=", "-p", "no:cacheprovider"),
        tests / "unit/grounding/test_detections.py",
        tests / "integration/test_exporters.py",
        f"{tests / 'integration/test_mcp_server.py'}::test_langchains_adapters_get_the_tools_back",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
