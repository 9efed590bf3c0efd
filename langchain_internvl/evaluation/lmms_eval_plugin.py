"""Plugin of lmms-eval, registered in the entry-point group `lmms_eval.models`."""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """The registration of `--model chat_internvl`, an `lmms_eval` `ModelManifest`."""
    from lmms_eval.models.registry_v2 import ModelManifest  # noqa: PLC0415 - lmms-eval calls this

    return ModelManifest(
        model_id="chat_internvl",
        chat_class_path="langchain_internvl.evaluation.lmms_eval_model.LmmsEvalModel",
    )
