"""The README's Python for LMDeploy runs as it stands, on a tiny checkpoint."""

import re
import shutil

from golden import PHOTOS, checkpoint_folder
from readme import LMDEPLOY, programs


def test_what_the_readme_says_of_lmdeploy_runs(tmp_path, monkeypatch, nodes, views):
    shutil.copy(PHOTOS / "chelsea.png", tmp_path / "cat.png")
    shutil.copy(PHOTOS / "coffee.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    model = str(checkpoint_folder("qwen2"))
    proxy = nodes.proxy().wait()
    node = nodes.serve(
        views("qwen2"), model_name=model, proxy_url=proxy.root,
        engine_config={"enable_metrics": False},
    ).wait()  # fmt: skip
    namespace = {}
    blocks = programs(LMDEPLOY)
    assert len(blocks) >= 6
    for number, block in enumerate(blocks, 1):
        program = (
            block.replace('"OpenGVLab/InternVL2-8B"', repr(model))
            .replace("http://127.0.0.1:23333/v1", node.url)
            .replace("http://127.0.0.1:8000/v1", proxy.url)
        )
        program = program.replace("temperature=0", "temperature=0, max_tokens=6")
        exec(compile(program, f"README block {number}", "exec"), namespace)
    assert len(node.state["seen"]) == 6


def test_every_section_of_the_quick_start_for_lmdeploy_has_code():
    sections = LMDEPLOY.split("\n## Many nodes")[0].split("\n### ")[1:]
    names = [section.splitlines()[0] for section in sections]
    assert names == ["Hello, world", "Several images", "A batch", "Several turns", "A service"]
    for section in sections:
        assert re.search(r"```text.*```python", section, re.DOTALL)
