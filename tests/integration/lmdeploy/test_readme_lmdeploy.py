"""The pages on LMDeploy run as they stand, uncut, on a tiny checkpoint."""

import re
import shutil

import pytest
from golden import checkpoint_folder
from readme import IN_LMDEPLOY, ROOT, pages, run_page


@pytest.mark.parametrize("page", sorted(IN_LMDEPLOY))
def test_a_page_runs_uncut_in_one_namespace(page, tmp_path, monkeypatch, nodes, views):
    shutil.copytree(ROOT / "cookbook", tmp_path / "cookbook")
    monkeypatch.chdir(tmp_path)
    model = str(checkpoint_folder("qwen2"))
    proxy = nodes.proxy().wait()
    node = nodes.serve(
        views("qwen2"), model_name=model, proxy_url=proxy.root,
        engine_config={"enable_metrics": False},
    ).wait()  # fmt: skip
    run_page(
        page,
        ('"OpenGVLab/InternVL2-8B"', repr(model)),
        ("http://127.0.0.1:23333/v1", node.url),
        ("http://127.0.0.1:8000/v1", proxy.url),
        ("temperature=0)", "temperature=0, max_tokens=6)"),
        ("temperature=0,", "temperature=0, max_tokens=6,"),
    )
    assert len(node.state["seen"]) == 6


def test_every_section_of_the_quick_start_for_lmdeploy_has_code():
    guide = pages()["docs/guides/servers.md"]
    sections = guide.split("\n## Many nodes")[0].split("\n### ")[1:]
    names = [section.splitlines()[0] for section in sections]
    assert names == ["Hello, world", "Several images", "A batch", "Several turns", "A service"]
    for section in sections:
        assert re.search(r"```text.*```python", section, re.DOTALL)
