"""Templates that no recording covers, written out."""

import pytest

from langchain_internvl.errors import PromptError
from langchain_internvl.messages.conversation import Text, Turn
from langchain_internvl.prompting.build import PromptOptions, build_prompt
from langchain_internvl.prompting.templates import get_template

TURNS = (
    Turn("user", (Text("Hello"),)),
    Turn("assistant", (Text("Hi."),)),
    Turn("user", (Text("And now?"),)),
)


def test_gpt_oss():
    template = get_template("internvl3_5_gpt_oss")
    written = build_prompt(TURNS, template, PromptOptions(default_system="Be brief.")).to_text()
    assert written == (
        "<|start|>system<|message|>Be brief.<|end|>"
        "<|start|>user<|message|>Hello<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Hi.<|end|>"
        "<|start|>user<|message|>And now?<|end|>"
        "<|start|>assistant"
    )
    # `<|end|>` ends a message of a reply, such as its thoughts.
    assert (template.stop, template.stops_at_eos) == ("<|return|>", False)
    assert template.default_system == (
        "You are InternVL, a large language model trained by Shanghai AI Laboratory.\n"
        "Knowledge cutoff: 2024-06\nCurrent date: 2025-08-06\n\nReasoning: low\n\n"
        "# Valid channels: final. Channel must be included for every message."
    )


@pytest.mark.parametrize(
    ("name", "near"), [("internvl2-5", "internvl2_5"), ("phi3", "phi3-chat"), ("zz", None)]
)
def test_unknown_templates_name_the_nearest(name, near):
    with pytest.raises(PromptError, match="The known ones are internlm2-chat") as caught:
        get_template(name)
    assert ("did you mean" in str(caught.value)) == (near is not None)
    if near:
        assert f"did you mean {near!r}?" in str(caught.value)
