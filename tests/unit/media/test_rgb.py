"""16-bit grey and transparency, as the reference shows them and as a person sees them."""

import io
import warnings

import numpy as np
import pytest
from golden import checkpoint_folder
from langchain_core.documents.base import Blob
from langchain_core.messages import HumanMessage
from PIL import Image
from support import FixedBackend

from langchain_internvl import ChatInternVL, InternVLImageParser, MediaPolicy, image_block
from langchain_internvl.documents.blank import is_blank
from langchain_internvl.documents.page_image import page_from_array
from langchain_internvl.media.images import load_readable, load_rgb, read_size
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.rgb import scale_grey
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.tools.images import open_image

POLICY = MediaPolicy()
PAPER, INK = 40_000, 5_000
SCAN = np.full((60, 80), PAPER, np.uint16)
SCAN[20:40, 20:60] = INK
SCALED = (PAPER // 256, INK // 256)


def encoded(array, kind, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(array) if isinstance(array, np.ndarray) else array
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def paper_and_ink(image):
    return image.getpixel((0, 0))[0], image.getpixel((40, 30))[0]


SCANS = {
    "png": lambda: BytesSource(encoded(SCAN, "PNG"), "a.png"),
    "tiff": lambda: BytesSource(encoded(SCAN, "TIFF"), "a.tiff"),
    "tiff, most significant byte first": lambda: BytesSource(
        encoded(Image.frombytes("I;16B", (80, 60), SCAN.astype(">u2").tobytes()), "TIFF"), "a.tiff"
    ),
    "pgm": lambda: BytesSource(encoded(SCAN, "PPM"), "a.pgm"),
    "pillow": lambda: PixelSource(Image.fromarray(SCAN), "x"),
    "pillow of 32 bits": lambda: PixelSource(Image.fromarray(SCAN.astype(np.int32)), "x"),
    "a block": lambda: BytesSource(PixelSource(Image.fromarray(SCAN), "x").read(POLICY), "x"),
    "a block of 32 bits": lambda: BytesSource(
        PixelSource(Image.fromarray(SCAN.astype(np.int32)), "x").read(POLICY), "x"
    ),
}


@pytest.mark.parametrize("source", SCANS.values(), ids=SCANS)
def test_16_bit_grey_is_scaled_on_request(source):
    with pytest.warns(UserWarning, match="scale_16bit=True"):
        assert paper_and_ink(load_rgb(source(), POLICY)) == (255, 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paper_and_ink(load_rgb(source(), POLICY, scale_16bit=True)) == SCALED
        assert paper_and_ink(load_readable(source(), POLICY)) == SCALED
        assert paper_and_ink(open_image(source(), POLICY).pixels) == SCALED


def test_negatives_are_turned_over():
    negative = encoded(65535 - SCAN, "TIFF", tiffinfo={262: 0})
    shown = paper_and_ink(load_readable(BytesSource(negative, "x"), POLICY))
    assert np.abs(np.subtract(shown, SCALED)).max() <= 1


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray((SCAN / 65536).astype(np.float32)),
        Image.open(io.BytesIO(encoded(65535 - SCAN, "TIFF", tiffinfo={262: 0}))),
        Image.fromarray(SCAN.astype(np.float32)),
    ],
    ids=["floats", "negative", "floats of 16 bits"],
)
def test_blocks_keep_grey_that_png_cannot_hold(image):
    direct = load_rgb(PixelSource(image, "x"), POLICY, scale_16bit=True)
    block = BytesSource(PixelSource(image, "x").read(POLICY), "x")
    assert np.abs(np.subtract(paper_and_ink(direct), SCALED)).max() <= 1
    assert paper_and_ink(load_rgb(block, POLICY, scale_16bit=True)) == paper_and_ink(direct)
    with pytest.warns(UserWarning, match="scale_16bit=True"):
        shown = load_rgb(block, POLICY)
    assert shown.tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 100, 255], np.uint16), [0, 100, 255]),
        (np.array([0, 100, 256, 65535], np.uint16), [0, 0, 1, 255]),
        (np.array([256], np.uint16), [64]),  # of 10 bits
        (np.array([-32_768, 0, 32_767], np.int16), [0, 128, 255]),
        (np.array([-5000, -1250, 0], np.int32), [0, 191, 255]),
        (np.array([-5, 40_000], np.int32), [0, 255]),
        (np.array([-3, -3], np.int16), [0, 0]),
        (np.array([-1, 0, 1, np.nan, np.inf, -np.inf], np.float32), [0, 128, 255, 0, 255, 0]),
        (np.array([0, 100, np.inf], np.float32), [0, 100, 100]),
        (np.array([0, 50_000, 100_000], np.int32), [0, 127, 255]),
        (np.array([0, 512, 1023], np.uint16), [0, 128, 255]),
        (np.array([500, 4000], np.uint16), [31, 250]),
        (np.array([0, 8192, 16_383], np.uint16), [0, 128, 255]),
        (np.array([0, 0.5, 1, np.nan], np.float32), [0, 127, 255, 0]),
        (np.array([0, 200.7], np.float32), [0, 200]),
        (np.zeros(0, np.uint16), []),
    ],
)
def test_scale(values, expected):
    assert scale_grey(values).tolist() == expected


SIGNED = np.where(SCAN == INK, -20_000, 12_000)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_signed_grey_is_scaled_over_its_range(dtype):
    """As microscopes, scanners of films and CT write it."""
    values = SIGNED.astype(dtype)
    # Pillow does not write int16.
    tiff = encoded(values if dtype != np.int16 else values.astype(np.int32), "TIFF")
    for source in (
        BytesSource(tiff, "x"),
        PixelSource(Image.fromarray(values.astype(np.int32)), "x"),
        BytesSource(PixelSource(Image.open(io.BytesIO(tiff)), "x").read(POLICY), "x"),
    ):
        assert paper_and_ink(load_readable(source, POLICY)) == (255, 0)
        with pytest.warns(UserWarning, match="become white.*scale_16bit=True"):
            load_rgb(source, POLICY)
    if dtype != np.float32:
        assert paper_and_ink(page_from_array(values, "x", POLICY)) == (255, 0)
    dark = Image.fromarray(np.full((9, 9), -7, np.int32))
    with pytest.warns(UserWarning, match="negative grey values become black.*scale_16bit"):
        load_rgb(PixelSource(dark, "x"), POLICY)


def test_12_bit_negatives_are_turned_over():
    negative = encoded(4095 - SCAN // 16, "TIFF", tiffinfo={262: 0})
    assert paper_and_ink(load_readable(BytesSource(negative, "x"), POLICY)) == SCALED


def test_8_bit_values_in_16_bits_are_kept_without_a_warning():
    source = BytesSource(encoded(np.full((4, 4), 200, np.uint16), "PNG"), "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_rgb(source, POLICY).getpixel((0, 0)) == (200, 200, 200)
    assert load_readable(source, POLICY).getpixel((0, 0)) == (200, 200, 200)


@pytest.mark.parametrize("given", [image_block, lambda image: {"type": "image", "image": image}])
def test_messages_have_an_option(given):
    backend = FixedBackend()
    llm = ChatInternVL(model=str(checkpoint_folder("internlm2")), backend=backend, max_tiles=1)
    message = [HumanMessage([given(Image.fromarray(SCAN))])]
    llm.invoke(message)
    with pytest.warns(UserWarning, match="scale_16bit=True"):
        assert backend.requests[-1].tiles[0].min() == 255
    llm.invoke(message, scale_16bit=True)
    tile = backend.requests[-1].tiles[0][0]
    assert (tile[5, 5, 0], tile[224, 224, 0]) == SCALED
    keys = [request.tiles.images[0].key for request in backend.requests]
    assert keys[0] != keys[1]  # caches of prefixes tell them apart
    assert llm.bind(scale_16bit=True).invoke(message)
    assert ChatInternVL(scale_16bit=True).scale_16bit


def test_images_that_are_clipped_alike_have_keys_of_their_own():
    backend = FixedBackend()
    llm = ChatInternVL(model=str(checkpoint_folder("internlm2")), backend=backend, max_tiles=1)
    for grey in (30_000, 60_000):
        image = Image.fromarray(np.full((60, 80), grey, np.uint16))
        llm.invoke([HumanMessage([{"type": "image", "image": image}])], scale_16bit=True)
    first, second = (request.tiles.images[0].key for request in backend.requests)
    assert first != second


def letters(mode):
    """Black on a transparent ground, whose colour is black too."""
    image = Image.new("RGBA", (80, 60), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (20, 20, 60, 40))
    if mode == "P":
        image = image.quantize(4)
    elif mode == "I;16":
        image = Image.fromarray(np.where(np.asarray(image)[:, :, 3] == 0, 9, 0).astype(np.uint16))
    elif mode in {"L", "RGB"}:  # one colour stands for transparent
        image = Image.new(mode, (80, 60), 9 if mode == "L" else (9, 9, 9))
        image.paste(0 if mode == "L" else (0, 0, 0), (20, 20, 60, 40))
    else:
        image = image.convert(mode)
    transparency = {"L": 9, "I;16": 9, "RGB": (9, 9, 9)}.get(mode)
    return encoded(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


TRANSPARENT = ["RGBA", "LA", "P", "L", "RGB", "I;16"]


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_transparency_is_white_for_tools_and_documents(mode):
    data = letters(mode)
    source = BytesSource(data, "x")
    assert paper_and_ink(load_readable(source, POLICY)) == (255, 0)
    assert paper_and_ink(open_image(source, POLICY).pixels) == (255, 0)
    with pytest.warns(UserWarning, match="white_background=True"):
        assert max(paper_and_ink(load_rgb(source, POLICY))) <= 9  # the reference drops alpha
    backend = FixedBackend()
    llm = ChatInternVL(model=str(checkpoint_folder("internlm2")), backend=backend, max_tiles=1)
    assert list(InternVLImageParser(llm).lazy_parse(Blob.from_data(data)))
    tile = backend.requests[-1].tiles[0][0]
    assert (tile[5, 5, 0], tile[224, 224, 0]) == (255, 0)


def white_letters(mode, ground=(255, 255, 255, 0)):
    image = Image.new("RGBA", (80, 60), ground)
    image.paste((255, 255, 255, 255), (20, 20, 60, 40))
    return encoded(image.convert(mode), "PNG")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("ground", [(255, 255, 255, 0), (0, 0, 0, 0)])
def test_what_is_seen_on_black_only_is_put_on_black(mode, ground):
    source = BytesSource(white_letters(mode, ground), "x")
    for shown in (
        load_readable(source, POLICY), load_rgb(source, POLICY, white_background=True)
    ):  # fmt: skip
        assert paper_and_ink(shown) == (0, 255)
    with pytest.warns(UserWarning, match="white_background=True"):
        as_stored = paper_and_ink(load_rgb(source, POLICY))
    assert as_stored == (ground[0], 255)  # messages are as the reference


def test_white_letters_are_no_blank_page():
    page = Image.new("RGBA", (600, 400), (0, 0, 0, 0))
    page.paste((250, 250, 250, 255), (100, 100, 400, 120))
    assert not is_blank(load_readable(BytesSource(encoded(page, "PNG"), "x"), POLICY))


WHITE, CLEAR, BLACK = (255, 255, 255, 255), (255, 255, 255, 0), (0, 0, 0, 255)


@pytest.mark.parametrize(
    ("ground", "parts"),
    [
        (WHITE, {(0, 0, 9, 9): CLEAR}),
        (CLEAR, {(20, 20, 60, 40): WHITE, (30, 30, 40, 35): BLACK}),
        (CLEAR, {(20, 20, 60, 40): (255, 255, 255, 20)}),
        (CLEAR, {}),
    ],
    ids=["an empty sheet with a clear corner", "dark and white", "seen nowhere", "nothing"],
)
def test_other_transparent_images_stay_on_white(ground, parts):
    image = Image.new("RGBA", (80, 60), ground)
    for box, colour in parts.items():
        image.paste(colour, box)
    shown = load_readable(BytesSource(encoded(image, "PNG"), "x"), POLICY)
    assert shown.getpixel((2, 2)) == (255, 255, 255)


@pytest.mark.parametrize("mode", TRANSPARENT)
@pytest.mark.parametrize("given", [image_block, lambda image: {"type": "image", "image": image}])
def test_messages_have_an_option_for_transparency(mode, given):
    backend = FixedBackend()
    llm = ChatInternVL(model=str(checkpoint_folder("internlm2")), backend=backend, max_tiles=1)
    message = [HumanMessage([given(Image.open(io.BytesIO(letters(mode))))])]
    llm.invoke(message)
    with pytest.warns(UserWarning, match="white_background=True"):
        assert backend.requests[-1].tiles[0].max() <= 12  # bicubic
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm.invoke(message, white_background=True)
        tile = backend.requests[-1].tiles[0][0]
    assert (tile[5, 5, 0], tile[224, 224, 0]) == (255, 0)
    keys = [request.tiles.images[0].key for request in backend.requests]
    assert keys[0] != keys[1]
    assert ChatInternVL(white_background=True).white_background


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_alpha(mode):
    image = Image.open(io.BytesIO(letters("RGBA" if mode == "RGBa" else "LA"))).convert(mode)
    for source in (PixelSource(image, "x"), BytesSource(PixelSource(image, "x").read(POLICY), "x")):
        assert paper_and_ink(load_readable(source, POLICY)) == (255, 0)
        with pytest.warns(UserWarning, match="white_background=True"):
            load_rgb(source, POLICY)


OPAQUE = {
    "alpha": lambda: Image.new("RGBA", (8, 8), (9, 9, 9, 255)),
    "grey and alpha": lambda: Image.new("LA", (8, 8), (9, 255)),
    "an unused transparent colour": lambda: Image.new("RGB", (8, 8), (9, 9, 9)),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_opaque_images_with_an_alpha_channel_do_not_warn(name, recwarn):
    options = {"transparency": (1, 2, 3)} if name.startswith("an ") else {}
    source = BytesSource(encoded(OPAQUE[name](), "PNG", **options), "x")
    assert load_rgb(source, POLICY).getpixel((0, 0)) == (9, 9, 9)
    assert load_rgb(source, POLICY, white_background=True).getpixel((0, 0)) == (9, 9, 9)
    assert not recwarn.list


def test_the_size_of_a_transparent_icon_is_read_without_a_warning(recwarn):
    icon = encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 0)), "ICO")
    assert read_size(BytesSource(icon, "x"), POLICY) == (32, 32)
    assert not recwarn.list
