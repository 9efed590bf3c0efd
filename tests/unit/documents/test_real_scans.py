"""Real files of the ocrmypdf sdist: right page counts, what each page is, and clear errors.

Small ones are in tests/data/documents (see its README). All are tested if OCRMYPDF_RESOURCES names
the folder tests/resources of the unpacked sdist, version 17.13.0.
"""

import os
from pathlib import Path

import pytest
from drawn_pages import scripted
from golden import DATA

from langchain_internvl import InternVLLoader
from langchain_internvl.errors import MediaError

# What each page is: read by the model, a kept text layer, or blank.
FILES = {
    "2400dpi.pdf": "model",
    "3small.pdf": "model model model",
    "acroform.pdf": "model",
    "aspect.pdf": "model",
    "baiona.png": "model",
    "baiona_alpha.png": "model",
    "baiona_cmyk.jpg": "model",
    "baiona_color.jpg": "model",
    "baiona_colormapped.png": "model",
    "baiona_gray.png": "model",
    "blank.pdf": "blank",
    "c03-29.pdf": "model",
    "cardinal.pdf": "model model model model",
    "ccitt.pdf": "model",
    "cmyk.pdf": "model",
    "crom.png": "model",
    "docinfo_latin1_key.pdf": "blank",
    "enormous.pdf": "model",
    "epson.pdf": "model",
    "formxobject.pdf": "text_layer",
    "francais.pdf": "model",
    "graph.pdf": "model",
    "graph_ocred.pdf": "model",
    "hugemono.pdf": "model",
    "jbig2.pdf": "model",
    "jbig2_baddevicen.pdf": "model",
    "kcs.pdf": "model",
    "lichtenstein.pdf": "model",
    "link.pdf": "text_layer text_layer",
    "linn.pdf": "model",
    "linn.png": "model",
    "livecycle.pdf": "blank",
    "masks.pdf": "model",
    "meta.pdf": "blank",
    "missing_docinfo.pdf": "text_layer",
    "multipage.pdf": "model model model model model model",
    "negzero.pdf": "text_layer",
    "no_contents.pdf": "blank",
    "overlay.pdf": "text_layer",
    "palette.pdf": "model",
    "poster.pdf": "model",
    "rotated_skew.pdf": "model",
    "skew.pdf": "model",
    "tagged.pdf": "text_layer text_layer",
    "toc.pdf": "text_layer blank",
    "trivial.pdf": "blank",
    "truetype_font_nomapping.pdf": "model",
    "type3_font_nomapping.pdf": "model",
    "typewriter.png": "model",
    "vector.pdf": "model",
}


def find(name):
    for folder in (os.environ.get("OCRMYPDF_RESOURCES"), DATA / "documents"):
        if folder is not None and (Path(folder) / name).is_file():
            return Path(folder) / name
    return pytest.skip("not in the repository; OCRMYPDF_RESOURCES names no folder that has it")


@pytest.mark.parametrize("name", FILES)
def test_pages_of_real_files(name):
    llm, backend = scripted(lambda request: "Some words that stand on the page.")
    pages = InternVLLoader(find(name), llm=llm).load()
    ways = FILES[name].split()
    assert [page.metadata["page"] for page in pages] == list(range(len(ways)))
    assert {page.metadata["total_pages"] for page in pages} == {len(ways)}
    assert [page.metadata["ocr"] for page in pages] == ways
    # One request for each page that is read: none is cut into parts, none is turned.
    assert len(backend.requests) == ways.count("model")
    assert all(len(request.tiles[0]) <= 13 for request in backend.requests)


@pytest.mark.parametrize(
    ("name", "angle"),
    [("multipage.pdf", [0, 0, 0, 0, -2, 0]), ("rotated_skew.pdf", [2.75]), ("skew.pdf", [-1.75])],
)
def test_the_skew_of_real_scans(name, angle):
    llm, _ = scripted(lambda request: "text")
    pages = InternVLLoader(find(name), llm=llm, ocr="always").load()
    assert [page.metadata.get("skew", 0) for page in pages] == pytest.approx(angle, abs=0.25)


def test_the_text_layers_of_real_files():
    llm, backend = scripted([])
    names = ["overlay.pdf", "missing_docinfo.pdf"]
    stamped, plain = InternVLLoader([find(name) for name in names], llm=llm).load()
    assert "Payed 2017-Jan-22" in stamped.page_content
    assert "This file has no /DocumentInfo block" in plain.page_content
    assert backend.requests == []


def test_a_header_alone_is_no_pdf():
    llm, _ = scripted([])
    with pytest.raises(MediaError, match=r"invalid\.pdf: is no PDF that can be read"):
        InternVLLoader(find("invalid.pdf"), llm=llm).load()
