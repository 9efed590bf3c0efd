"""Odd images, arrays, videos and page ranges: the right pixels, or an error with its remedy."""

import io
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence, TiffImagePlugin
from videos import pictures, write_clip

from langchain_internvl import MediaPolicy, image_block, video_block
from langchain_internvl.errors import MediaError, MessageError, RequestError, UnsupportedMediaError
from langchain_internvl.media.images import load_readable, load_rgb
from langchain_internvl.media.page_ranges import parse_pages, select_pages
from langchain_internvl.media.sources import BytesSource, PathSource, to_source
from langchain_internvl.media.video_process import read_clip

POLICY = MediaPolicy()
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
IMAGE = Image.fromarray(PIXELS)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(value):
    return np.asarray(load_rgb(to_source(value, "x"), POLICY))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_every_format(kind, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = saved(IMAGE, kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    for given in (data, Image.open(io.BytesIO(data))):
        assert np.array_equal(load_readable(to_source(given, "x"), POLICY), upright)
        plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(shown(given), plain)


CHANGES = {
    "crop": lambda image: image.crop((5, 5, 20, 20)),
    "copy": lambda image: image.copy(),
    "rotate": lambda image: image.rotate(30),
    "resize": lambda image: image.resize((10, 12)),
    "transform": lambda image: image.transform((9, 9), Image.Transform.EXTENT, (0, 0, 20, 20)),
    "transpose": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "channel": lambda image: image.convert("RGB").getchannel(1),
    "quantize": lambda image: image.convert("RGB").quantize(4),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_of_a_lazily_opened_image(kind, change):
    data = saved(IMAGE, kind)
    expected = np.asarray(change(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.array_equal(shown(change(Image.open(io.BytesIO(data)))), expected)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(PIXELS), PIXELS[::-1, :, ::-1], PIXELS[::2, ::3],
        np.ascontiguousarray(PIXELS.transpose(2, 0, 1)).transpose(1, 2, 0),
        np.ma.masked_array(PIXELS, mask=False), np.frombuffer(PIXELS.tobytes(), np.uint8).reshape(
            PIXELS.shape
        ),
    ],
    ids=["fortran", "backwards", "strided", "channels first", "masked nowhere", "read-only"],
)  # fmt: skip
def test_views_of_arrays(array):
    assert np.array_equal(shown(array), array)


def test_memory_maps(tmp_path):
    mapped = np.memmap(tmp_path / "a", np.uint8, "w+", shape=PIXELS.shape)
    mapped[:] = PIXELS
    block = image_block(mapped)
    mapped[:] = 0
    assert block == image_block(PIXELS)


class Tensor:
    def __array__(self):
        return PIXELS


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.ma.masked_array(PIXELS, mask=True), r"masked.*filled\(255\)"),
        (PIXELS / np.float32(255), r"not float32; .*\(array \* 255\)\.astype"),
        (PIXELS > 9, "not bool; .*255"),
        (PIXELS.astype(np.uint16), "not uint16; scale"),
        (PIXELS.transpose(2, 0, 1), r"not \(3, 30, 40\); array.transpose\(1, 2, 0\)"),
        (Tensor(), r"type Tensor is no medium.*permute\(1, 2, 0\)"),
    ],
    ids=["masked", "floats", "bools", "16 bits", "channels first", "tensor"],
)
def test_other_arrays_are_refused_with_their_remedy(value, words):
    with pytest.raises(UnsupportedMediaError, match=words):
        image_block(value)


def animation():
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
    return Image.open(io.BytesIO(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])))


def test_an_image_that_moved_on_is_refused():
    image = animation()
    source = to_source(image, "x")
    image.seek(1)
    for use in (lambda: load_rgb(source, POLICY), lambda: source.read(POLICY)):
        with pytest.raises(MediaError, match=r"moved the image from frame 0 to 1.*image\.copy"):
            use()
    image.seek(0)
    assert load_rgb(source, POLICY).getpixel((9, 9)) == (255, 0, 0)


def test_another_thread_that_seeks_changes_no_image():
    image, stop = animation(), threading.Event()

    def wander():
        while not stop.is_set():
            for number in range(3):
                image.seek(number)

    copies = [frame.copy() for frame in ImageSequence.Iterator(animation())]
    thread = threading.Thread(target=wander)
    thread.start()
    try:
        for _ in range(20):
            assert [shown(copy)[9, 9].argmax() for copy in copies] == [0, 1, 2]
    finally:
        stop.set()
        thread.join()


def test_an_animation_in_place_of_its_frames_is_refused():
    """`list(ImageSequence.Iterator(image))` showed the last frame three times."""
    with pytest.raises(MessageError, match=r"frame 2: the same Pillow object .*frame\.copy\(\)"):
        video_block(list(ImageSequence.Iterator(animation())))
    block = video_block([frame.copy() for frame in ImageSequence.Iterator(animation())])
    assert len({frame["base64"] for frame in block["frames"]}) == 3
    assert len(video_block([IMAGE, IMAGE])["frames"]) == 2


# Videos.


def audio_with_cover(path):
    """An audio file with the cover of an album, which is a video stream of one picture."""
    with av.open(str(path), "w", format="mp4") as file:
        sound = file.add_stream("aac", rate=44_100)
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        for number in range(20):
            samples = np.zeros((2, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
            frame.sample_rate, frame.pts = 44_100, number * 1024
            file.mux(sound.encode(frame))
        picture = av.VideoFrame.from_image(Image.new("RGB", (64, 48), "red"))
        picture = picture.reformat(format="yuvj420p")
        picture.pts, picture.time_base = 0, Fraction(1)
        file.mux(cover.encode(picture))
        file.mux(cover.encode())
        file.mux(sound.encode())
    return path


def test_the_cover_of_an_audio_file_is_no_video(tmp_path):
    with pytest.raises(MediaError, match="no video stream, only audio"):
        read_clip(PathSource(audio_with_cover(tmp_path / "a.m4a")), POLICY)


def test_a_video_that_is_cut_off_is_said_without_temporary_paths(tmp_path):
    path = write_clip(tmp_path / "a.mp4", pictures(20))
    data = path.read_bytes()
    with pytest.raises(MediaError, match="is cut off") as raised:
        read_clip(BytesSource(data[: len(data) // 2], "x"), POLICY)
    assert "internvl-media" not in str(raised.value)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animated_images_that_are_no_video_have_a_remedy(kind):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match=r"no video; pass the frames .* as a list"):
        read_clip(BytesSource(data, "x"), POLICY)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_upright_image_is_not_turned_again(kind):
    exif = Image.Exif()
    exif[0x112] = 6
    upright = load_readable(BytesSource(saved(IMAGE, kind, exif=exif), "x"), POLICY)
    assert upright.size == (30, 40)
    source = to_source(upright, "x")
    assert load_readable(source, POLICY).size == (30, 40)
    assert load_readable(BytesSource(source.read(POLICY), "x"), POLICY).size == (30, 40)


@pytest.mark.parametrize(("tag_type", "value"), [(2, "abc"), (12, 1.5)])
def test_a_tiff_whose_subfile_type_is_no_number_is_read(tag_type, value):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[330], tags[254] = (8,), value
    tags.tagtype[330], tags.tagtype[254] = 4, tag_type
    assert np.array_equal(shown(saved(IMAGE, "TIFF", tiffinfo=tags)), PIXELS)


# Page ranges.


@pytest.mark.parametrize(("given", "numbers"), [(np.int64(2), [2]), (np.array([0, -1]), [0, 4])])
def test_page_ranges_of_numpy(given, numbers):
    assert select_pages(parse_pages(given), 5) == numbers


@pytest.mark.parametrize("given", [b"1", np.array([0.5]), np.array([True]), bytearray(b"2")])
def test_other_page_ranges_are_refused(given):
    with pytest.raises(RequestError, match="names no pages"):
        parse_pages(given)
