"""Options of blocks: misspelt ones are reported, fields of other providers are not."""

import pytest

from langchain_internvl.messages.block_options import warn_of_options


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("detai", "detail"), ("detial", "detail"), ("max_tile", "max_tiles"),
        ("maxTiles", "max_tiles"), ("min-tiles", "min_tiles"), ("mintiles", "min_tiles"),
        ("n_frames", "nframes"), ("num_frame", "num_frames"), ("nmu_frames", "num_frames"),
        ("video_strat", "video_start"), ("video_ends", "video_end"), ("passwort", "password"),
        ("max_dynamic_patches", "max_dynamic_patch"),
        ("max_tiles_pro_frame", "max_tiles_per_frame"),
    ],
)  # fmt: skip
def test_typing_errors(name, meant):
    with pytest.warns(UserWarning, match=f"no option {name!r}; did you mean {meant!r}"):
        warn_of_options("video", {name: 1}, "here")


@pytest.mark.parametrize(
    "name",
    [
        "frame", "round", "found", "sound", "bounding", "tail", "retail", "video_id", "max_frames",
        "min_frames", "page", "ages", "stages", "images", "max_time", "video_url", "video_ext",
        "word", "keyword", "num_pages", "max_size", "password_id", "x" * 100_000, "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["image", "pdf", "video"])
def test_other_words_are_no_typing_errors(name, kind, recwarn):
    warn_of_options(kind, {name: 1}, "here")
    assert not recwarn.list


def test_a_password_is_for_pdfs(recwarn):
    warn_of_options("pdf", {"password": "x"}, "here")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="password has no effect on a medium of kind 'image'"):
        warn_of_options("image", {"password": "x"}, "here")
