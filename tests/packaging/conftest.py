"""Builds the distributions once and makes clean environments for them."""

import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = (sys.executable, "-m", "uv", "pip")

# uv does not read pip's settings.
if "PIP_CERT" in os.environ:
    os.environ.setdefault("SSL_CERT_FILE", os.environ["PIP_CERT"])


def run(*command, check=True, cwd=None):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=cwd
    )
    if check and done.returncode:
        pytest.fail(f"{command[1:]}: {done.stderr[-3000:] or done.stdout[-3000:]}")
    return done


class Environment:
    """An empty virtual environment, filled by uv."""

    def __init__(self, folder):
        venv.create(folder, with_pip=False)
        self.folder = folder
        self.bin = folder / ("Scripts" if sys.platform == "win32" else "bin")

    @property
    def python(self):
        return self.bin / "python"

    def install(self, *requirements):
        run(*UV, "install", "--quiet", "--python", self.python, *requirements)
        done = run(sys.executable, "-m", "pip", "--python", self.python, "check", check=False)
        # decord 0.6.0 names an old platform in its metadata; it is installed and works.
        faults = [line for line in done.stdout.splitlines() if "decord 0.6.0 is not" not in line]
        assert not done.returncode or not faults, faults

    def run(self, program):
        """Run a program; `cwd` is the environment's folder, so that no clone is imported."""
        return run(self.python, "-c", program, check=False, cwd=self.folder)


@pytest.fixture(scope="session", autouse=True)
def _an_index_can_be_reached(tmp_path_factory):
    asked = tmp_path_factory.mktemp("index") / "requirements.in"
    asked.write_text("packaging", "utf-8")
    done = run(*UV, "compile", "--quiet", asked, check=False)
    if done.returncode:
        pytest.skip(f"uv reaches no package index: {done.stderr[-300:]}")


@pytest.fixture(scope="session")
def distributions(tmp_path_factory):
    """The folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="session")
def wheel(distributions):
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "environment")


@pytest.fixture(scope="module")
def with_torch(tmp_path_factory):
    """An environment with the CPU build of torch, which pip finds, and nothing else."""
    made = Environment(tmp_path_factory.mktemp("torch") / "environment")
    pip = (sys.executable, "-m", "pip", "--python", made.python)
    run(*pip, "install", "--quiet", f"torch=={version('torch').split('+')[0]}")
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory, wheel):
    """An environment with the package and no extra."""
    made = Environment(tmp_path_factory.mktemp("base") / "environment")
    made.install(wheel)
    return made
