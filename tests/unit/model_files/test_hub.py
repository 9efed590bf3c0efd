import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from langchain_internvl import ChatInternVL
from langchain_internvl.checkpoint import find_adapter, find_cached, open_checkpoint
from langchain_internvl.errors import CheckpointNotFoundError
from langchain_internvl.model_files.hub import is_repository, local_folder


@pytest.mark.parametrize("name", ["a/" + "b" * 5000, "~nobody-of-this-name/b"])
def test_names_that_cannot_be_paths_are_typed_errors_everywhere(name):
    for find in (open_checkpoint, find_adapter):
        with pytest.raises(CheckpointNotFoundError, match="is no folder"):
            find(name)
    assert find_cached(name) is None
    ChatInternVL(model=name, revision="main")  # says nothing until it is used


@pytest.mark.parametrize("find", [open_checkpoint, find_adapter])
@pytest.mark.parametrize("name", ["no-owner", "a/b/c", "./a", "/no/such/folder", "a\0b"])
def test_what_is_neither_a_folder_nor_an_id(find, name):
    with pytest.raises(CheckpointNotFoundError, match="neither a folder nor an id"):
        find(name)


def test_a_reason_of_the_hub_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise LocalEntryNotFoundError("no connection\nand nothing\n  in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(CheckpointNotFoundError) as error:
        open_checkpoint("owner/name")
    assert str(error.value).endswith("hub: no connection and nothing in the cache")


def test_folders_and_ids(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_folder("~") == tmp_path
    assert local_folder("a/b") is None
    assert is_repository("OpenGVLab/InternVL2-8B")
    assert not is_repository("~/models")
