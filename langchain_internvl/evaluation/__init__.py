"""Scores by their published definitions, runs over cases, and adapters for benchmark runners."""

from langchain_internvl.evaluation.boxes import acc_at_iou
from langchain_internvl.evaluation.cases import Case, read_cases
from langchain_internvl.evaluation.options import mvbench_accuracy, option_letter
from langchain_internvl.evaluation.run import METRICS, CaseResult, evaluate
from langchain_internvl.evaluation.statistics import Estimate, compare, estimate
from langchain_internvl.evaluation.text import (
    anls,
    cer,
    exact_match,
    ocrbench,
    relaxed_accuracy,
    wer,
)

__all__ = [
    "METRICS",
    "Case",
    "CaseResult",
    "Estimate",
    "acc_at_iou",
    "anls",
    "cer",
    "compare",
    "estimate",
    "evaluate",
    "exact_match",
    "mvbench_accuracy",
    "ocrbench",
    "option_letter",
    "read_cases",
    "relaxed_accuracy",
    "wer",
]
