"""The README, as tests read it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")

LMDEPLOY = README[README.index("\n## LMDeploy") : README.index("\n## Many at once")]
"""What needs LMDeploy, which is run in an environment of its own."""


def programs(text):
    """The Python in a text, block by block."""
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
