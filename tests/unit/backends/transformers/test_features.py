"""Images that are asked about again are neither decoded nor encoded again."""

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_support import make_backend, wait_until
from golden import checkpoint_folder
from langchain_core.messages import HumanMessage
from patience import PATIENCE
from PIL import Image
from support import RecordingBackend

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers import image_features
from langchain_internvl.backends.transformers.features import FeatureCache
from langchain_internvl.errors import MediaError, RequestTimeoutError
from langchain_internvl.media.lazy_tiles import ImageTiles, TileList

FOLDER = checkpoint_folder("qwen2")


def picture(seed=0, size=(900, 450)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.fixture
def engine():
    backend = RecordingBackend(make_backend(FOLDER, prefix_cache=False))
    yield backend
    backend.close()


@pytest.fixture
def encoded(monkeypatch):
    """The shapes of what goes through the vision tower."""
    shapes = []
    encode = image_features.encode_image

    def count(model, tiles, is_unwanted):
        shapes.append(len(tiles))
        return encode(model, tiles, is_unwanted)

    monkeypatch.setattr(image_features, "encode_image", count)
    return shapes


def ask(engine, *images, question="What?", **settings):
    llm = ChatInternVL(model=str(FOLDER), backend=engine, temperature=0, max_tokens=6, **settings)
    blocks = [image_block(image) for image in images]
    llm.invoke([HumanMessage([*blocks, {"type": "text", "text": question}])])
    return engine.replies[-1]


def test_ten_questions_about_one_page_encode_it_once(engine, encoded):
    page = png(picture())
    replies = [ask(engine, page, question=f"Question {n}?") for n in range(10)]
    assert encoded == [3]
    cold = make_backend(FOLDER, feature_cache_bytes=0, prefix_cache=False)
    for request, reply in zip(engine.requests, replies, strict=True):
        assert [delta.token_id for delta in cold.stream(request)] == reply
    cold.close()
    assert len(encoded) == 11
    stats = engine.backend.stats
    assert (stats.feature_hits, stats.feature_misses) == (9, 1)
    assert stats.feature_bytes == 3 * 256 * 64 * 4


def test_only_equal_tiles_are_taken_for_equal(engine, encoded, tmp_path):
    image = picture()
    other = image.copy()
    other.putpixel((5, 5), (1, 2, 3))
    ask(engine, png(image))
    ask(engine, png(other))
    assert encoded == [3, 3]
    ask(engine, png(image), max_tiles=1)
    ask(engine, png(image), max_tiles=6)
    assert encoded == [3, 3, 1, 3]
    ask(engine, png(other), png(image))
    ask(engine, png(image), png(other))
    ask(engine, png(image), png(other), join_images=True)
    assert len(encoded) == 4
    path = tmp_path / "page.png"
    path.write_bytes(png(picture(1)))
    ask(engine, path)
    path.write_bytes(png(picture(2)))
    ask(engine, path)
    ask(engine, path)
    assert len(encoded) == 6


def test_turned_photographs_are_other_images(engine, encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", exif=exif)
    ask(engine, buffer.getvalue())
    ask(engine, buffer.getvalue(), exif_transpose=True)
    ask(engine, buffer.getvalue(), exif_transpose=True)
    assert len(encoded) == 2


def test_requests_hold_no_pixels(engine):
    ask(engine, png(picture(size=(2000, 1500))))
    (image,) = engine.requests[0].images
    assert isinstance(engine.requests[0].tiles, TileList)
    assert image.count == 13
    held = [cell.cell_contents for cell in image.cut.__closure__]
    assert not any(isinstance(one, (np.ndarray, Image.Image)) for one in held)
    assert np.array_equal(engine.requests[0].tiles[0], image.cut())
    assert len(engine.requests[0].tiles[:][0]) == 13


def test_an_image_that_cannot_be_decoded_fails_alone(engine, encoded):
    whole = png(picture())
    ask(engine, whole)
    with pytest.raises(MediaError, match="truncated"):
        ask(engine, whole[: len(whole) // 2])
    assert ask(engine, whole) == engine.replies[0]
    assert encoded == [3]


def test_a_request_whose_time_is_over_takes_no_other_along(engine):
    ask(engine, png(picture()))
    first, engine = engine.requests[0], engine.backend
    engine.clear_caches()
    (image,) = first.images
    begun = threading.Event()

    def too_late():
        begun.set()
        other_waits.wait(PATIENCE)
        raise RequestTimeoutError("media took longer")

    other_waits = threading.Event()
    late = replace(first, tiles=TileList([replace(image, cut=too_late)]), timeout=PATIENCE)
    errors = []

    def ask_late():
        try:
            list(engine.stream(late))
        except RequestTimeoutError as error:
            errors.append(error)

    thread = threading.Thread(target=ask_late)
    thread.start()
    assert begun.wait(PATIENCE)
    others = []
    other = threading.Thread(target=lambda: others.extend(engine.stream(first)))
    other.start()
    assert wait_until(lambda: len(engine._worker._handles) == 2)
    (handle,) = [one for one in engine._worker._handles.values() if one.request is late]
    handle._deadline = 0.0
    other_waits.set()
    other.join()
    assert len(others) == 6
    thread.join()
    assert len(errors) == 1


def test_the_least_recently_used_go():
    cache = FeatureCache(100)
    for key in (b"a", b"b"):
        cache.put(key, torch.zeros(10))
    assert cache.get(b"a") is not None
    cache.put(b"c", torch.zeros(10))
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert cache.nbytes == 80
    cache.put(b"large", torch.zeros(26))
    assert cache.get(b"large") is None
    assert cache.nbytes == 80
    cache.put(b"c", torch.zeros(10))
    assert cache.nbytes == 80
    cache.clear()
    assert (cache.nbytes, cache.get(b"a")) == (0, None)
    assert cache.hits == 2


def test_tiles_that_are_given_as_arrays_have_keys_too():
    tiles = np.zeros((2, 8, 8, 3), np.uint8)
    other = tiles.copy()
    other[1, 7, 7, 2] = 1
    keys = {one.key for one in Request([1], [tiles, tiles.copy(), other, tiles[:1]]).images}
    assert len(keys) == 3
    assert ImageTiles.of_array(tiles).count == 2
