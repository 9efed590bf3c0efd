"""Scans of many machines' worth: documents to pages to text to Parquet, by Ray Data 2.60.

    pip install 'langchain-internvl[documents,transformers,ray]'
    python cookbook/ray_pages.py 's3://box/scans' 's3://box/text' --model OpenGVLab/InternVL2-8B

First an index: a row for each page with its `page_id` (SHA-256 of the document, page number). Of
documents with the same bytes one is read. Then tasks on CPUs render the pages, and actors, one for
each GPU, or clients of one server (`--base-url`) read them. Ray holds back rendering while readers
are busy, restarts what dies, and notes in `OUT.checkpoint` which pages are in the output: the same
command, started again after a crash or with new documents, reads the others. A failed page is a row
with an `error`; `--again` reads such rows.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Iterable, Iterator
from typing import Any

from PIL import Image

from langchain_internvl.documents import PageReader
from langchain_internvl.documents.jobs import ARCHIVES, page_id
from langchain_internvl.documents.pages import PageOptions, pages_of
from langchain_internvl.errors import InternVLError
from langchain_internvl.media.sources import BytesSource


def index(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pages of a document; one that cannot be read is one page, whose reading will say why."""
    digest, total = hashlib.sha256(row["bytes"]).hexdigest(), 1
    try:
        first = PageOptions(ocr="never", pages=[0])
        total = next(pages_of(BytesSource(row["bytes"], row["path"]), ARCHIVES, first)).total
    except InternVLError:
        pass
    for number in range(total):
        yield {"page_id": page_id(digest, number), "path": row["path"], "page": number}


def copies(first_pages: Iterable[dict[str, Any]]) -> set[str]:
    """Paths of documents with the bytes of another one."""
    found: dict[str, str] = {}
    return {
        row["path"]
        for row in first_pages
        if found.setdefault(row["page_id"], row["path"]) != row["path"]
    }


def render(batch: dict[str, Any], files: Any) -> dict[str, Any]:
    """The images of a batch of pages, as PNG, and why a page has none."""
    images, reasons = [], []
    for path, number in zip(batch["path"], batch["page"], strict=True):
        buffer, reason = io.BytesIO(), ""
        try:
            with files.open_input_file(path) as file:
                source = BytesSource(file.read(), path)
            options = PageOptions(ocr="always", pages=[int(number)])
            picture = next(pages_of(source, ARCHIVES, options)).picture
            if not isinstance(picture, Image.Image):
                raise picture or ValueError("no image")
            picture.save(buffer, "PNG", compress_level=1)
        except (InternVLError, OSError, ValueError) as error:
            reason = str(error)
        images.append(buffer.getvalue())
        reasons.append(reason)
    return {**batch, "image": images, "reason": reasons}


def main() -> None:
    """Run the pipeline."""
    import ray  # noqa: PLC0415 - the extra `ray`
    from pyarrow.fs import FileSystem  # noqa: PLC0415
    from ray.data.checkpoint import CheckpointConfig  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scans", help="folder, also of a network drive or an object store")
    parser.add_argument("out", help="folder, which all machines reach")
    parser.add_argument("--model", default="OpenGVLab/InternVL2-8B")
    parser.add_argument("--base-url")
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=1, help="of each reader; 0 with --base-url")
    parser.add_argument("--batch", type=int, default=32, help="pages")
    parser.add_argument("--block", type=int, default=16 << 20, help="bytes of images that a task "
                        "renders, and whose pages are noted as done together")  # fmt: skip
    parser.add_argument("--again", help="output of an earlier run, whose failed pages are read")
    arguments = parser.parse_args()
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = arguments.block
    files, scans = FileSystem.from_uri(arguments.scans)
    if arguments.again:
        rows = ray.data.read_parquet(arguments.again).filter(lambda row: bool(row["error"]))
        pages = rows.select_columns(["page_id", "path", "page"])
    else:
        documents = ray.data.read_binary_files(scans, filesystem=files, include_paths=True)
        pages = documents.flat_map(index)
    pages.write_parquet(f"{arguments.out}.index", mode="overwrite")
    first = ray.data.read_parquet(f"{arguments.out}.index").filter(expr="page == 0")
    twice = copies(first.iter_rows())
    # Datasets take the configuration that is there when they are made.
    context.checkpoint_config = CheckpointConfig(
        "page_id", f"{arguments.out}.checkpoint", delete_checkpoint_on_success=False
    )
    pages = ray.data.read_parquet(f"{arguments.out}.index")
    if twice:
        pages = pages.filter(lambda row: row["path"] not in twice)
    model = {"model": arguments.model, "base_url": arguments.base_url, "temperature": 0}
    images = pages.map_batches(render, batch_size=arguments.batch, fn_kwargs={"files": files})
    read = images.map_batches(
        PageReader,
        fn_constructor_args=[model, {"output": "markdown"}],
        batch_size=arguments.batch,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=arguments.readers),
        num_gpus=arguments.gpus,
        num_cpus=0,  # it waits for its GPU or its server
    )
    read.write_parquet(arguments.out)


if __name__ == "__main__":
    main()
