"""The recipe for Ray Data on a local cluster, with its workers and its driver killed.

Ray is in an environment of its own; see DEVELOPMENT.md.
"""

import base64
import io
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pyarrow.parquet
import pytest
from drawn_pages import draw_page, encode, scan_pdf
from fault_server import FaultServer, error, lines, words
from patience import PATIENCE
from PIL import Image

from langchain_internvl import ChatInternVL, InternVLLoader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]

ROOT = Path(__file__).parents[2]
READER = "ray::MapWorker(MapBatches(PageReader))"
WORDS = ["amber", "basket", "candle", "dollar", "engine", "forest", "garden", "hammer", "island",
         "jacket", "kettle", "ladder"]  # fmt: skip
COLOURS = [(250 - 9 * number, 220, 130 + 9 * number) for number in range(len(WORDS))]


class Cluster:
    """A cluster of one machine with two CPUs, whose processes can be killed."""

    def __init__(self):
        self._environment = {
            **os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        head = self._start("-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0",
                           "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={mkdtemp()}",
                           "--object-store-memory=200000000")  # fmt: skip
        self._head, said = psutil.Process(head.pid), ""
        while (found := re.search(r"--address='([^']+)'", said)) is None:
            line = head.stdout.readline()
            assert line, f"Ray did not start: {said}"
            said += line
        threading.Thread(target=head.stdout.read, daemon=True).start()
        self._address = found[1]

    def run(self, *arguments):
        """Start the recipe on the cluster; its process is the driver."""
        return self._start(
            *(ROOT / "cookbook/ray_pages.py", *map(str, arguments), "--gpus=0", "--batch=2"),
            RAY_ADDRESS=self._address,
            PYTHONPATH=str(ROOT),
        )

    def workers(self, name):
        """Processes that hold an actor, or run a task, whose name begins so."""
        found = []
        for one in self._head.children(recursive=True):
            with suppress(psutil.Error):
                found += [one] if "".join(one.cmdline()[:1]).startswith(name) else []
        return found

    def kill(self, name):
        """`kill -9` of the workers of a name; their number."""
        workers = self.workers(name)
        for one in workers:
            one.kill()
        return len(workers)

    def close(self):
        for one in [*self._head.children(recursive=True), self._head]:
            with suppress(psutil.NoSuchProcess):
                one.kill()

    def _start(self, *arguments, **environment):
        return subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env={**self._environment, **environment},
        )  # fmt: skip


@pytest.fixture
def cluster():
    made = Cluster()
    yield made
    made.close()


@pytest.fixture
def scans(tmp_path):
    """Twelve pages of colours in three files, a copy of one of them, and a broken file."""
    pages = [draw_page(word, size=(448, 448), font=40, ground=colour)
             for word, colour in zip(WORDS, COLOURS, strict=True)]  # fmt: skip
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(scan_pdf(*pages[:5]))
    (folder / "b.tiff").write_bytes(
        encode(pages[5], "TIFF", save_all=True, append_images=pages[6:-1])
    )
    (folder / "copies").mkdir()
    (folder / "copies/a.pdf").write_bytes((folder / "a.pdf").read_bytes())
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    (folder / "c.png").write_bytes(encode(pages[-1]))
    return folder


class Reader(FaultServer):
    """A server that answers with the word of a page; `read` has the words in their order."""

    def __init__(self):
        super().__init__(models=({"id": "vl", "owned_by": "vllm"},))
        self.read = []
        self.refused = set()
        self.then = lambda count: None
        self._one = threading.Lock()

    def take(self, body, headers):
        (url,) = (part["image_url"]["url"] for part in body["messages"][-1]["content"]
                  if part["type"] == "image_url")  # fmt: skip
        page = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
        word = WORDS[nearest(page.getpixel((9, 9)))]
        with self._one:
            self.read.append(word)
            self.then(len(self.read))
        return error(400) if word in self.refused else lines(*words(word))


def nearest(colour):
    return min(range(len(COLOURS)), key=lambda number: sum(
        abs(one - other) for one, other in zip(colour, COLOURS[number], strict=True)
    ))  # fmt: skip


@pytest.fixture
def server():
    made = Reader()
    with made.running() as url:
        made.arguments = ("--model", "vl", "--base-url", url)
        yield made


def rows(out):
    """The rows of an output, by their identity; each is there once."""
    found = pyarrow.parquet.read_table(out).to_pylist()
    assert max(Counter(row["page_id"] for row in found).values()) == 1
    return {row["page_id"]: row for row in found}


def texts(out):
    return {name: row["text"] for name, row in rows(out).items() if not row["error"]}


def in_one_process(scans, **settings):
    llm = ChatInternVL(temperature=0, **settings)
    loader = InternVLLoader(scans, llm=llm, output="markdown", ocr="always", on_error="skip")
    return {page.id: page.page_content for page in loader.lazy_load()}


def finish(driver):
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, said[-6000:]


@pytest.fixture
def expected(scans, server):
    read = in_one_process(scans, model="vl", base_url=server.arguments[-1])
    server.read.clear()
    assert sorted(read.values()) == WORDS
    return read


def test_workers_are_killed(cluster, scans, server, expected, tmp_path):
    """Readers at the third and the eighth request; tasks of other kinds when they are seen."""
    killed = Counter()
    others = ["ray::FlatMap(index)", "ray::MapBatches(render)", "ray::Write"]

    def then(count):
        if count in {3, 8}:
            killed[READER] += cluster.kill(READER)

    server.then = then
    driver = cluster.run(scans, tmp_path / "out", *server.arguments, "--block", 40_000)
    while driver.poll() is None:
        for name in others:
            if not killed[name]:
                killed[name] += cluster.kill(name)
        time.sleep(0.02)
    finish(driver)
    assert killed[READER] == 2
    assert texts(tmp_path / "out") == expected
    (broken,) = [row for row in rows(tmp_path / "out").values() if row["error"]]
    assert broken["path"].endswith("broken.pdf")


@pytest.mark.parametrize("with_machines", [False, True])
def test_the_driver_is_killed_and_started_again(scans, server, expected, tmp_path, with_machines):
    """At random requests; with the whole cluster, too, or with its driver alone."""
    out, chance, kills = tmp_path / "out", random.Random(7), int(os.environ.get("RAY_KILLS", "3"))
    cluster = Cluster()
    try:
        for left in reversed(range(kills + 1)):
            done = noted(f"{out}.checkpoint")
            before = len(server.read)
            unread = max(1, len(WORDS) - len(done))
            moment = before + chance.randint((unread + 1) // 2, unread)
            driver = cluster.run(scans, out, *server.arguments, "--block", 40_000)

            def then(count, moment=moment, driver=driver, left=left):
                if left and count == moment:
                    driver.kill()

            server.then = then
            if not left:
                finish(driver)
            driver.communicate()
            assert not {expected.get(name) for name in done} & set(server.read[before:])
            if left and with_machines:
                cluster.close()
                cluster = Cluster()
    finally:
        cluster.close()
    assert texts(out) == expected
    assert len(rows(out)) == len(expected) + 1


def noted(folder):
    """The identities of the pages of which a checkpoint knows that they are in the output."""
    files = [one for one in Path(folder).glob("*.parquet") if ".pending" not in one.name]
    return {name for one in files for name in
            pyarrow.parquet.read_table(one)["page_id"].to_pylist()}  # fmt: skip


def test_new_scans_and_failed_pages_are_read_by_another_run(
    cluster, scans, server, expected, tmp_path
):
    server.refused = {"candle", "ladder"}
    finish(cluster.run(scans, tmp_path / "out", *server.arguments))
    failed = {row["page_id"] for row in rows(tmp_path / "out").values() if row["error"]}
    assert len(failed) == 3
    server.read.clear()
    (scans / "d.png").write_bytes(encode(draw_page("moon", size=(448, 448), ground=COLOURS[0])))
    finish(cluster.run(scans, tmp_path / "out", *server.arguments))
    assert server.read == ["amber"]
    server.read.clear()
    server.refused = set()
    for _ in range(2):
        finish(cluster.run(scans, tmp_path / "new", "--again", tmp_path / "out", *server.arguments))
    assert sorted(server.read) == ["candle", "ladder"]
    both = texts(tmp_path / "out") | texts(tmp_path / "new")
    assert both.items() >= expected.items()
    assert failed == rows(tmp_path / "new").keys()


def test_nano_reads_what_one_process_reads(cluster, scans, tmp_path):
    """A reader is killed when the first pages are written."""
    driver = cluster.run(scans, tmp_path / "out", "--model", "nano", "--block", 40_000)
    killed = 0
    while driver.poll() is None:
        if not killed and list((tmp_path / "out").glob("*.parquet")):
            killed += cluster.kill(READER)
        time.sleep(0.05)
    finish(driver)
    assert killed == 1
    assert texts(tmp_path / "out") == in_one_process(scans, model="nano")
