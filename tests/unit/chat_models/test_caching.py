"""LangChain's cache of replies."""

from chat_support import MODEL, ask
from langchain_core.caches import InMemoryCache
from PIL import Image
from support import FixedBackend

from langchain_internvl import ChatInternVL, MediaPolicy
from langchain_internvl.backends.base import Delta


def test_identifying_params_tell_models_apart():
    base = ChatInternVL(model=MODEL)._identifying_params
    for change in (
        {"model": "other"}, {"revision": "v1"}, {"dtype": "float32"}, {"temperature": 0.5},
        {"top_p": 0.5}, {"max_tiles": 3}, {"number_images": False}, {"default_system": "x"},
        {"chat_template": "Hermes-2"}, {"backend": FixedBackend()}, {"exif_transpose": True},
        {"media_policy": MediaPolicy(max_bytes=1)},
    ):  # fmt: skip
        assert ChatInternVL(**{"model": MODEL, **change})._identifying_params != base, change


def test_cache_tells_images_and_settings_apart(backend, tmp_path):
    llm = ChatInternVL(model=MODEL, backend=backend, cache=InMemoryCache())
    file = tmp_path / "a.png"

    def calls(**settings):
        llm.invoke(ask({"type": "image", "path": str(file)}, "x"), **settings)
        return len(backend.requests)

    Image.new("RGB", (8, 8), "red").save(file)
    assert [calls(), calls()] == [1, 1]
    Image.new("RGB", (8, 8), "blue").save(file)
    assert [calls(), calls()] == [2, 2]
    assert [calls(max_tokens=3), calls(max_tokens=3)] == [3, 3]
    picture = Image.new("RGB", (8, 8), "green")
    for _ in range(2):
        llm.invoke(ask({"type": "image", "image": picture}, "x"))
    assert len(backend.requests) == 4


def test_cache_tells_backends_apart():
    cache = InMemoryCache()

    class Quiet(FixedBackend):
        def __repr__(self):
            return "Quiet"

    def says(words):
        backend = Quiet(Delta(1, words, "stop"))
        return ChatInternVL(model=MODEL, backend=backend, cache=cache)

    one, other = says("one"), says("other")
    assert [llm.invoke("x").content for llm in (one, other, one)] == ["one", "other", "one"]
    assert one.model_copy().invoke("x").content == "one"
    assert [len(llm.backend.requests) for llm in (one, other)] == [1, 1]
    swapped = one.model_copy(update={"backend": other.backend})
    assert swapped.invoke("x").content == "other"


def test_cache_tells_policies_apart(backend, monkeypatch):
    """What LangChain itself leaves out of a cache's key."""
    llm = ChatInternVL(model=MODEL, backend=backend)
    strings = {
        llm.model_copy(update=change)._get_llm_string(stop=["a"])
        for change in ({}, {"max_tiles": 3}, {"media_policy": MediaPolicy(max_bytes=1)})
    }
    assert len(strings) == 3
