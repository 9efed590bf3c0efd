"""What the sdist and the wheel hold."""

import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT, run

pytestmark = pytest.mark.packaging


def test_twine_accepts_both(distributions):
    run(sys.executable, "-m", "twine", "check", "--strict", *distributions.iterdir())


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    listed = run("git", "-C", ROOT, "ls-files", "langchain_internvl").stdout.split()
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(n for n in names if ".dist-info/" not in n) == sorted(listed)
    assert {"langchain_internvl/py.typed", "langchain_internvl/nano/model.safetensors"} <= set(
        names
    )


def test_the_wheel_stays_small(wheel):
    assert wheel.stat().st_size < 10 * 2**20


def test_metadata_names_licence_scripts_and_entry_points(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {n.split("/")[0] for n in archive.namelist() if ".dist-info/" in n}
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert "License-Expression: MIT" in metadata
    assert "langchain-internvl = langchain_internvl.cli:main" in entry_points
    assert "[lmms_eval.models]" in entry_points


def test_the_sdist_holds_docs_and_no_environments(distributions):
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"README.md", "CHANGELOG.md", "pyproject.toml", "docs/index.md", "LICENSE"} <= names
    assert not any(name.startswith((".venv", "build/", ".git/")) for name in names)
