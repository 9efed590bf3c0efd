"""Sources of the loader that name no readable file, each with its reason."""

import io
import logging
import os

import numpy as np
import pytest
from drawn_pages import draw_page, encode, scripted

from langchain_internvl import InternVLLoader, image_block
from langchain_internvl.documents.sources import find_files
from langchain_internvl.errors import MediaError, RequestError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(encode(draw_page("one")))
    return tmp_path


def found(*sources, **options):
    return [one if isinstance(one, MediaError) else one.name
            for one in find_files(sources, **options)]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "empty path"),
        (" ", "empty path"),
        ("s3://bucket/scan.pdf", "scheme s3 are not read"),
        ("ftp://host/*.pdf", "scheme ftp are not read"),
        ("~no-such-user/scan.pdf", "is no path"),
        ("none*.pdf", "nothing matches"),
        (7, "type int is no source"),
        (None, "type NoneType is no source"),
    ],
)
def test_a_source_that_names_nothing_says_why(folder, source, reason):
    first, second = found(source, "a.png")
    assert reason in str(first)
    assert second == "a.png"


@pytest.mark.parametrize("sources", [None, 7, object()])
def test_what_is_no_source_is_refused_at_once(sources):
    with pytest.raises(MediaError, match="is no source"):
        InternVLLoader(sources, llm=scripted([])[0])


def test_paths_in_bytes_are_refused():
    class Named:
        def __fspath__(self):
            return b"a.png"

    os.PathLike.register(Named)
    (error,) = found(Named())
    assert "text, not bytes" in str(error)


def test_a_broken_link_in_a_folder_is_a_missing_file(folder):
    (folder / "b.png").symlink_to("gone.png")
    llm, _ = scripted(["text"])
    first, second = InternVLLoader(str(folder), llm=llm, on_error="record").load()
    assert first.page_content == "text"
    assert "b.png: no such file" in second.metadata["error"]


def test_linked_folders_and_pipes_are_not_read_and_said(folder, caplog):
    (folder / "inner").mkdir()
    (folder / "inner/b.png").write_bytes(encode(draw_page("two")))
    (folder / "link").symlink_to("inner")
    os.mkfifo(folder / "c.png")
    assert found(str(folder)) == [str(folder / "a.png"), str(folder / "inner/b.png")]
    assert "left out: links to folders (1), no regular files (1)" in caplog.text
    caplog.clear()
    assert found(str(folder), recursive=False) == [str(folder / "a.png")]
    assert "links" not in caplog.text


def test_a_folder_that_cannot_be_listed_is_an_error_beside_the_others(folder, monkeypatch):
    (folder / "secret").mkdir()
    scan = os.scandir

    def refused(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    error, file = found(str(folder))
    assert str(error) == f"{folder / 'secret'}: cannot be read: Permission denied"
    assert file == str(folder / "a.png")


def test_a_folder_of_images_alone_warns_of_nothing(folder, caplog):
    with caplog.at_level(logging.WARNING):
        found(str(folder))
    assert not caplog.records


@pytest.mark.parametrize(
    "settings",
    [{"dpi": float("inf")}, {"dpi": "300"}, {"concurrency": 2.5}, {"concurrency": "8"},
     {"password": b"secret"}, {"long_side": "9"}, {"long_side": 9.5}, {"mode": ["page"]},
     {"page_delimiter": None}, {"max_tiles": 0}],
)  # fmt: skip
def test_settings_of_another_type_are_refused_at_once(settings):
    with pytest.raises(RequestError, match=next(iter(settings))):
        InternVLLoader("a.pdf", llm=scripted([])[0], **settings)


@pytest.mark.parametrize(
    "settings",
    [{"dpi": np.float32(200)}, {"dpi": np.int64(200)}, {"concurrency": np.int64(3)}],
)
def test_numbers_of_numpy_are_numbers(settings, folder):
    llm = scripted(["text"])[0]
    (page,) = InternVLLoader(folder / "a.png", llm=llm, skip_blank=False, **settings).load()
    assert page.page_content == "text"


def test_a_glob_of_folders_gives_every_file_once(folder):
    """`**` matches a folder, the folders in it, and all files in both."""
    (folder / "in/deep").mkdir(parents=True)
    for name in ("in/b.png", "in/deep/c.png"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    assert found("in/**") == ["in/b.png", "in/deep/c.png"]
    assert sorted(found("**")) == ["a.png", "in/b.png", "in/deep/c.png"]
    assert sorted(found("**", recursive=False)) == ["a.png", "in/b.png", "in/deep/c.png"]
    assert found("*") == ["a.png", "in/b.png", "in/deep/c.png"]


def test_a_glob_of_folders_gives_all_that_it_matches(folder, caplog):
    """Files of any kind, and what is behind links, as `in/*` does."""
    for name in ("in/a.dat", "in/deep/b.dat", "other/c.png", "other/far/d.png", "other/e.dat"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    (folder / "in/link").symlink_to("../other")
    linked = ["in/link/c.png", "in/link/far/d.png"]
    assert [str(one) for one in found("in/*")] == [
        "in/a.dat", "in/deep: the folder has no images or PDFs", *linked,
    ]  # fmt: skip
    assert "in/deep" in caplog.text
    caplog.clear()
    every = ["in/a.dat", "in/deep/b.dat", linked[0], "in/link/e.dat", linked[1]]
    assert sorted(found("in/**")) == every
    assert sorted(found("in/**", recursive=False)) == every
    assert sorted(found("i*/**")) == every
    assert not caplog.records  # nothing is left out
    assert found("in/**/*.dat") == [one for one in every if one.endswith(".dat")]


LOOPS = "left out: links to folders that contain them"


@pytest.fixture
def loops(folder):
    """`in/a.png` and `in/sub/b.png`, with links to the folders above them, alone and in a chain."""
    (folder / "in/sub").mkdir(parents=True)
    (folder / "a.png").rename(folder / "in/a.png")
    (folder / "in/sub/b.png").write_bytes((folder / "in/a.png").read_bytes())
    (folder / "in/here").symlink_to(".")
    (folder / "in/sub/up").symlink_to(folder / "in")
    (folder / "in/sub/root").symlink_to("/")
    return folder


@pytest.mark.parametrize("pattern", ["in/*", "in/**", "**", "i*/**", "in/**/*.png", "in/**/**"])
def test_links_to_folders_above_them_are_left_out_where_a_wildcard_reaches_them(
    loops, pattern, caplog
):
    """With two links in a folder `**` of `glob` itself takes 2^40 paths."""
    (loops / "in/self").symlink_to("../in")
    (loops / "in/sub/same").symlink_to(".")
    assert found(pattern) == ["in/a.png", "in/sub/b.png"]
    (said,) = [one.getMessage() for one in caplog.records if LOOPS in one.getMessage()]
    assert (
        f"{LOOPS} ({2 if pattern == 'in/*' else 5}), such as in/here; name such a link in" in said
    )
    assert caplog.text.count("links to folders") == (2 if pattern == "in/*" else 1)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("in/here/*.png", ["in/here/a.png"]),
        ("in/here/here/a*", ["in/here/here/a.png"]),
        ("in/sub/up/*.png", ["in/sub/up/a.png"]),
        ("in/sub/up/**", ["in/sub/up/a.png", "in/sub/up/sub/b.png"]),
        ("in/*/up/*.png", ["in/sub/up/a.png"]),
        ("**/up/*.png", ["in/sub/up/a.png"]),
        ("i*/here/sub/*.png", ["in/here/sub/b.png"]),
        ("i*/here", ["in/here/a.png", "in/here/sub/b.png"]),
        ("in/sub/root{here}/in/*.png", ["in/sub/root{here}/in/a.png"]),
        ("{here}/in/here/*.png", ["{here}/in/here/a.png"]),
    ],
)
def test_links_to_folders_above_them_are_followed_where_a_pattern_names_them(loops, pattern, names):
    assert found(pattern.format(here=loops)) == [name.format(here=loops) for name in names]


@pytest.mark.parametrize("pattern", ["in/h*", "in/h*/*.png", "in/h*/**", "in/sub/[ur]*/**"])
def test_a_glob_whose_matches_are_all_left_out_is_an_error(loops, pattern):
    (error,) = found(pattern)
    assert isinstance(error, MediaError)
    assert "nothing matches the pattern but links to folders that contain them: in/" in str(error)
    assert str(error).endswith("; name such a link in the pattern to follow it")


def test_a_chain_of_links_back_to_a_folder_is_a_loop(folder, caplog):
    """But not where the way to the first folder that is searched leads through it."""
    for name in ("in/b.png", "other/c.png"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    (folder / "in/far").symlink_to("../other")
    (folder / "other/back").symlink_to("../in")
    (folder / "in/dead").symlink_to("dead")
    assert sorted(map(str, found("in/**"))) == ["in/b.png", "in/dead", "in/far/c.png"]
    assert f"in/**: what is no image or PDF is {LOOPS} (1)" in caplog.text
    assert found("in/far/*/*.png") == ["in/far/back/b.png"]


def test_an_empty_folder_takes_no_other_match_along(folder):
    for name in ("b", "c"):
        (folder / name).mkdir()
    (folder / "c/d.png").write_bytes((folder / "a.png").read_bytes())
    first, error, last = found("*")
    assert (first, last) == ("a.png", "c/d.png")
    assert "no images or PDFs" in str(error)


def test_open_files_are_sources(folder):
    with (folder / "a.png").open("rb") as file:
        llm = scripted(["one", "two"])[0]
        loader = InternVLLoader([file, io.BytesIO(file.read())], llm=llm, skip_blank=False)
        assert [one.metadata["source"] for one in loader.load()] == [str(folder / "a.png"), None]
        assert len(InternVLLoader(file, llm=scripted(["one"])[0], skip_blank=False).load()) == 1
    (error,) = found(io.StringIO("text"))
    assert "holds text" in str(error)


@pytest.mark.parametrize("name", ["https-scan.png", "data", "http", "file.png", "[1] a.png"])
def test_names_that_look_like_something_else_are_files(folder, name):
    (folder / "a.png").rename(folder / name)
    assert found(name) == [name]
    llm = scripted(["text"])[0]
    (page,) = InternVLLoader(name, llm=llm, skip_blank=False).load()
    assert (page.page_content, page.metadata["source"]) == ("text", name)
    assert image_block(name)["mime_type"] == "image/png"
