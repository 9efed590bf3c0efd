"""Labels in any script: a font is given or found, or a warning names what is missing."""

import warnings

import pytest
from PIL import Image, ImageChops, ImageFont
from tiny_fonts import tiny_font

from langchain_internvl import Box, draw_boxes
from langchain_internvl.grounding import fonts
from langchain_internvl.grounding.fonts import LabelFonts

GREY = (128, 128, 128)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder with installed fonts."""
    (tmp_path / "deep").mkdir()
    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path])
    for cached in (fonts._installed_fonts, fonts._installed_font, fonts._file_has, fonts._open):
        cached.cache_clear()
    yield tmp_path
    for cached in (fonts._installed_fonts, fonts._installed_font, fonts._file_has, fonts._open):
        cached.cache_clear()


def drawn_with(label, **options):
    box = Box(x1=100, y1=300, x2=900, y2=900, label=label)
    return draw_boxes(Image.new("RGB", (400, 300), GREY), [box], **options)


def test_a_script_that_pillow_lacks_takes_an_installed_font(folder):
    (folder / "deep" / "Han.ttf").write_bytes(tiny_font("猫狗"))
    (folder / "damaged.ttf").write_bytes(b"no font")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = drawn_with("猫狗")
        font, text = LabelFonts(20).font_for("猫 狗")
        plain, _ = LabelFonts(20).font_for("cat")
    assert (font.path, text) == (str(folder / "deep" / "Han.ttf"), "猫 狗")
    assert plain.getname() == ImageFont.load_default(20).getname()
    # A filled bar is drawn, no empty square.
    given = drawn_with("猫狗", font=folder / "deep" / "Han.ttf")
    assert ImageChops.difference(drawn, given).getbbox() is None


def test_no_font_at_all_is_said_and_drawn_as_question_marks(folder):
    with pytest.warns(UserWarning, match=r"no font here has 犬 猫, drawn as \?; give .*font="):
        drawn = drawn_with("猫 犬")
    assert ImageChops.difference(drawn, drawn_with("? ?")).getbbox() is None


def test_what_one_font_lacks_is_named_and_the_rest_is_written(folder):
    (folder / "Han.ttf").write_bytes(tiny_font("猫狗"))
    with pytest.warns(UserWarning, match="no font here has 鳥, drawn"):
        drawn_with("猫狗鳥")


def test_a_given_font_comes_first_and_others_help_out(folder):
    (folder / "Han.ttf").write_bytes(tiny_font("猫"))
    own = folder / "own.otf.file"
    own.write_bytes(tiny_font("狗"))
    chosen = LabelFonts(20, own)
    assert chosen.font_for("狗")[0].path == str(own)
    assert chosen.font_for("猫")[0].path == str(folder / "Han.ttf")
    assert chosen.font_for("dog")[0].getname() == ImageFont.load_default(20).getname()
    assert not chosen.missing


def test_regular_and_wide_fonts_come_first(folder):
    for name in ("Zapf.ttf", "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc"):
        (folder / name).write_bytes(tiny_font("猫"))
    assert LabelFonts(20).font_for("猫")[0].path == str(folder / "NotoSansCJK-Regular.ttc")


@pytest.mark.parametrize("label", ["a b", "a\u200bb", "a\ufe0fb", "\n\tx"])
def test_what_is_not_drawn_needs_no_glyph(label, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn_with(label)


def test_folders_of_every_system(monkeypatch, tmp_path):
    for system in ("linux", "darwin", "win32"):
        monkeypatch.setattr(fonts.sys, "platform", system)
        assert len(fonts.font_folders()) >= 2
