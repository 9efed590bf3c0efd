"""Plugin of lmms-eval, registered in the entry-point group `lmms_eval.models`."""

from __future__ import annotations

from typing import Any

from langchain_internvl._optional import require


def manifest() -> Any:
    """The registration of `--model chat_internvl`, an `lmms_eval` `ModelManifest`."""
    registry = require("lmms_eval.models.registry_v2", extra="evaluation")
    return registry.ModelManifest(
        model_id="chat_internvl",
        chat_class_path="langchain_internvl.evaluation.lmms_eval_model.LmmsEvalModel",
    )
