"""Each optional package, when it is missing, is named with its extra at its first use.

One process per package, in which its import is blocked as if it were not installed.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from golden import PHOTOS, VIDEO, checkpoint_folder

PAGE = Path(__file__).parents[2] / "cookbook/media/page.pdf"

BLOCK = """
import importlib.util, sys
BLOCKED = {blocked!r}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED or name in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
found = importlib.util.find_spec
def find_spec(name, package=None):
    return None if name.partition(".")[0] in BLOCKED else found(name, package)
importlib.util.find_spec = find_spec
import langchain_internvl
from langchain_internvl import *
from langchain_core.messages import HumanMessage
from langchain_internvl.backends.scripted import ScriptedBackend
def scripted():
    return ChatInternVL(model="nano", backend=ScriptedBackend(lambda request: "A cat."))
"""

TINY = str(checkpoint_folder("qwen2"))
STRUCTURED = """
schema = {"title": "a", "type": "object", "properties": {"b": {"type": "integer"}}}
ChatInternVL(model="nano").with_structured_output(schema).invoke("x")
"""
DOCLING = """
from langchain_internvl.documents.docling import describe_pictures
describe_pictures(None, None)
"""
CITED = """
from langchain_internvl.documents import answer_with_citations
answer_with_citations(scripted(), lambda question: [], ground="reading")
"""
MCP = "from langchain_internvl.tools.mcp_server import make_server; make_server([])"
PDF = """
from langchain_internvl.documents.searchable_pdf import make_searchable
from langchain_internvl.media.sources import PathSource
make_searchable(PathSource("x.pdf"), [], MediaPolicy())
"""
PARQUET = """
from pathlib import Path
from langchain_internvl.documents.archive import Parquet
Parquet(Path("x.parquet"))
"""

USES = [
    ("torch", "transformers", "ChatInternVL(model='nano').invoke('x')"),
    ("transformers", "transformers", "ChatInternVL(model='nano').prompt_ids('x')"),
    ("transformers", "transformers", "ChatInternVL(model='nano').invoke('x')"),
    ("huggingface_hub", "transformers", "ChatInternVL(model='OpenGVLab/None-1B').prompt_ids('x')"),
    ("xgrammar", "transformers", STRUCTURED),
    ("openai", "server", "ChatInternVL(model='vl', base_url='http://127.0.0.1:9').invoke('x')"),
    ("lmdeploy", "lmdeploy", "ChatInternVL(model='nano', backend='lmdeploy').invoke('x')"),
    ("bitsandbytes", "quantization",
     f"ChatInternVL(model={TINY!r}, quantization='8bit').invoke('x')"),
    ("pypdfium2", "documents", f"scripted().invoke([HumanMessage([pdf_block({str(PAGE)!r})])])"),
    ("pypdfium2", "documents", f"list(InternVLLoader({str(PAGE)!r}, llm=scripted()).lazy_load())"),
    ("tqdm", "documents", f"InternVLLoader({str(PAGE)!r}, llm=scripted(), progress=True).load()"),
    ("av,decord", "video", f"scripted().invoke([HumanMessage([video_block({str(VIDEO)!r})])])"),
    ("mcp", "mcp", MCP),
    ("rapidfuzz", "evaluation", "from langchain_internvl.evaluation import anls; anls('a', 'b')"),
    ("rapidfuzz", "evaluation", "from langchain_internvl.evaluation import cer; cer('a', 'b')"),
    ("rapidfuzz", "documents", CITED),
    ("docling_core", "docling", DOCLING),
    ("langchain", "agents", "from langchain_internvl.documents import ClearImagesMiddleware"),
    ("pikepdf", "searchable-pdf", PDF),
    ("pyarrow", "parquet", PARQUET),
]  # fmt: skip


def ran(blocked, program, cwd):
    source = BLOCK.format(blocked=set(blocked.split(","))) + program
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.mark.parametrize(("blocked", "extra", "program"), USES)
def test_a_missing_package_is_named_with_its_extra(blocked, extra, program, tmp_path):
    done = ran(blocked, program, tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(("ImportError", "ModuleNotFoundError")), done.stderr[-1500:]
    assert f"langchain-internvl[{extra}]" in last, done.stderr[-1500:]


COMMANDS = [
    ("typer", "cli", ["--help"]),
    ("rich", "cli", ["--version"]),
    ("torch", "transformers", ["describe", str(PHOTOS / "coffee.png"), "--model", "nano"]),
    ("pypdfium2", "documents", ["read", str(PAGE), "--model", "nano"]),
    ("av,decord", "video", ["ask", str(VIDEO), "-q", "What?", "--model", "nano"]),
    ("pypdfium2", "documents", ["ocr", str(PAGE), "--model", "nano", "--out", "o"]),
    ("pyarrow", "parquet", ["ocr", str(PAGE), "--model", "nano", "--out", "o.parquet"]),
    ("pikepdf", "searchable-pdf",
     ["ocr", str(PAGE), "--model", "nano", "--out", "o", "--searchable-pdf"]),
    ("mcp", "mcp", ["mcp", "--model", "nano", "--root", "."]),
    ("openai", "server",
     ["describe", str(PHOTOS / "coffee.png"), "--base-url", "http://127.0.0.1:9/v1"]),
    ("rapidfuzz", "evaluation", ["eval", "cases.jsonl", "-m", "anls", "--model", "nano"]),
]  # fmt: skip


@pytest.mark.parametrize(("blocked", "extra", "arguments"), COMMANDS)
def test_the_command_names_it_without_a_traceback(blocked, extra, arguments, tmp_path):
    case = '{"id": "1", "question": "Who?", "answer": "Ann"}\n'
    (tmp_path / "cases.jsonl").write_text(case, "utf-8")
    program = f"sys.argv = ['langchain-internvl', *{arguments!r}]\n"
    done = ran(blocked, program + "from langchain_internvl.cli import main; main()", tmp_path)
    said = " ".join(done.stderr.replace("│", " ").split())
    assert f"langchain-internvl[{extra}]" in said, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert "this tool" not in done.stderr  # the tools' advice for agents
    assert done.returncode == 3
