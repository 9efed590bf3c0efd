"""Translation of the config of an original checkpoint."""

import pytest
from checkpoints import original_config

from langchain_internvl.backends.transformers.config import translate_config


@pytest.mark.parametrize("number", [int, float])
def test_fractions_without_a_point(number):
    """JSON has one kind of number; programs that edit a config write 7.0 as 7."""
    original = original_config(
        "gpt_oss",
        downsample_ratio=number(1),
        llm_config={
            "num_local_experts": 4, "rms_norm_eps": number(1), "swiglu_alpha": number(2),
            "swiglu_limit": number(7),
        },
        vision_config={"layer_norm_eps": number(1)},
    )  # fmt: skip
    native = translate_config(original, image_token_id=1005, image_seq_length=1024)
    text = native.text_config
    assert (text.rms_norm_eps, text.swiglu_alpha, text.swiglu_limit) == (1.0, 2.0, 7.0)
    assert (native.vision_config.layer_norm_eps, native.downsample_ratio) == (1.0, 1.0)
    assert original["llm_config"]["swiglu_limit"] == 7
