"""Scans of many machines' worth: documents to pages to text to Parquet, by Ray Data.

    pip install 'langchain-internvl[documents,transformers,ray]'
    python cookbook/ray_pages.py 's3://box/scans' 's3://box/text' --model OpenGVLab/InternVL2-8B

Documents become pages on CPUs; pages are read by actors, one for each GPU, or by clients of one
server (`--base-url`). Ray holds back rendering while readers are busy. A page's row has its
`page_id` (SHA-256 of the document and the page number), so a run that is started again can leave
out what is in the output already (`--done`), and a failure is a row with an `error`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Iterator
from typing import Any

from PIL import Image

from langchain_internvl.documents import PageReader
from langchain_internvl.documents.jobs import ARCHIVES, page_id
from langchain_internvl.documents.pages import PageOptions, pages_of
from langchain_internvl.errors import InternVLError
from langchain_internvl.media.sources import BytesSource


def render(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pages of a document, as PNG; a document that cannot be read is a row with an error."""
    digest = hashlib.sha256(row["bytes"]).hexdigest()
    source = BytesSource(row["bytes"], row["path"])
    try:
        for page in pages_of(source, ARCHIVES, PageOptions(ocr="always")):
            buffer = io.BytesIO()
            if isinstance(page.picture, Image.Image):
                page.picture.save(buffer, "PNG", compress_level=1)
            yield {"page_id": page_id(digest, page.number), "path": row["path"],
                   "page": page.number, "image": buffer.getvalue(), "reason": ""}  # fmt: skip
    except InternVLError as error:
        yield {"page_id": digest, "path": row["path"], "page": -1, "image": b"",
               "reason": str(error)}  # fmt: skip


def main() -> None:
    """Run the pipeline."""
    import ray  # noqa: PLC0415 - the extra `ray`

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scans")
    parser.add_argument("out")
    parser.add_argument("--model", default="OpenGVLab/InternVL2-8B")
    parser.add_argument("--base-url")
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=1, help="of each reader; 0 with --base-url")
    parser.add_argument("--done", help="output of an earlier run, whose pages are left out")
    arguments = parser.parse_args()
    pages = ray.data.read_binary_files(arguments.scans, include_paths=True).flat_map(render)
    if arguments.done:
        kept = ray.data.read_parquet(arguments.done).filter(lambda row: not row["error"])
        done = frozenset(row["page_id"] for row in kept.select_columns(["page_id"]).iter_rows())
        pages = pages.filter(lambda row: row["page_id"] not in done)
    model = {"model": arguments.model, "base_url": arguments.base_url, "temperature": 0}
    read = pages.map_batches(
        PageReader,
        fn_constructor_args=[model, {"output": "markdown"}],
        batch_size=32,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=arguments.readers),
        num_gpus=arguments.gpus,
    )
    read.write_parquet(arguments.out)


if __name__ == "__main__":
    main()
