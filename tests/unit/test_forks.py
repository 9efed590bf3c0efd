"""What a forked process leaves to its parent: temporary folders, images that are being encoded."""

import gc
import os
import subprocess
import sys

import pytest
from engine_support import PATIENCE
from golden import checkpoint_folder

from langchain_internvl.forks import remove_with, temporary_folder

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


class Owner:
    pass


def run(program):
    """The output of a program, each process of which has to end."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.stdout.split()


def test_a_folder_ends_with_its_owner(tmp_path):
    kept, now = tmp_path / "kept", tmp_path / "now"
    for folder in (kept, now):
        folder.mkdir()
        (folder / "weights").touch()
    owner = Owner()
    remove_with(owner, kept)
    remove_with(owner, now)()
    assert (kept.exists(), now.exists()) == (True, False)
    del owner
    gc.collect()
    assert not kept.exists()


def test_a_temporary_folder_ends_with_its_context(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder("some-") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith("some-")
        (folder / "medium").touch()
    with pytest.raises(ZeroDivisionError), temporary_folder("other-"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@needs_fork
@pytest.mark.parametrize("end", ["sys.exit()", "owner = None; sys.exit()", "scope.close()"])
def test_a_forked_process_leaves_its_parents_folders(end, tmp_path):
    """However it ends, and whatever it drops; its own folders and its parent's end in time."""
    program = f"""
import os, sys, tempfile
from contextlib import ExitStack
from pathlib import Path
from langchain_internvl.forks import remove_with, temporary_folder
tempfile.tempdir = {str(tmp_path)!r}
class Owner: pass
owner, kept = Owner(), Path(tempfile.mkdtemp(prefix="kept-"))
remove_with(owner, kept)
scope = ExitStack()
used = scope.enter_context(temporary_folder("used-"))
child = os.fork()
if not child:
    own = Path(tempfile.mkdtemp(prefix="own-"))
    remove_with(sys, own)
    {end}
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
print(*sorted(one.name.split("-")[0] for one in Path(tempfile.tempdir).iterdir()))
"""
    assert run(program) == ["kept", "used"]
    assert not list(tmp_path.iterdir())


@needs_fork
def test_a_forked_process_waits_for_no_work_of_its_parent():
    """Neither for an image that is being encoded, when it ends, nor for a grammar that it needs."""
    program = f"""
import os, sys, threading
from types import SimpleNamespace
from PIL import Image
from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.transformers import image_features
from langchain_internvl.backends.transformers.grammars import Grammars
encode, begun, forked = image_features.encode_image, threading.Event(), threading.Event()
def held(*arguments):
    begun.set()
    forked.wait({PATIENCE})
    return encode(*arguments)
image_features.encode_image = held
llm = ChatInternVL(model={str(checkpoint_folder("qwen2"))!r}, max_tokens=2)
message = [("user", [image_block(Image.new("RGB", (9, 9))), "x"])]
thread = threading.Thread(target=lambda: print(llm.invoke(message).usage_metadata["output_tokens"]))
thread.start()
begun.wait({PATIENCE})
compiling = threading.Event()
class Slow(Grammars):
    def _compile(self, form):
        compiling.set()
        forked.wait({PATIENCE})
        return form
slow, grammar = Slow({{}}), SimpleNamespace(format="compiled")
threading.Thread(target=slow.compile, args=(grammar,)).start()
compiling.wait({PATIENCE})
child = os.fork()
if not child:
    llm.close()
    forked.set()
    print("closed", slow.compile(grammar), flush=True)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
forked.set()
thread.join()
llm.close()
"""
    assert run(program) == ["closed", "compiled", "2"]
