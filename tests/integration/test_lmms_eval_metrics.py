"""Our scores are those of lmms-eval's own functions, on thousands of random answers.

lmms-eval is installed without its dependencies (see the Makefile); its functions are loaded file
by file, since the package itself imports torchvision and data sets.
"""

import importlib.util
import random
import sys
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType

import pytest

from langchain_internvl.evaluation import (
    acc_at_iou,
    anls,
    mvbench_accuracy,
    ocrbench,
    option_letter,
    relaxed_accuracy,
)

try:
    LMMS_EVAL = distribution("lmms-eval")
except PackageNotFoundError:
    pytest.skip("lmms-eval is not installed", allow_module_level=True)


@pytest.fixture
def theirs(monkeypatch):
    def load(path, *stubs):
        for name in stubs:
            monkeypatch.setitem(sys.modules, name, AnyModule(name))
        file = LMMS_EVAL.locate_file(f"lmms_eval/{path}")
        spec = importlib.util.spec_from_file_location("lmms_eval_part", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


class AnyModule(ModuleType):
    """A module that has every name: what the functions under test never use."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: lambda one: one


PIECES = [
    *"ABCDEFabcde", "A.", "(B)", "C)", "D:", "B,", " ", "\n", "\t", "the answer is ", "Answer is",
    "I pick", "答案是", "5", "5.2", "1,000", "3%", "%", "0", "-4e3", "nan", "inf", "1_0", "ß", "İ",
    "\uff21", "\u3000", "straße", "cat", "Cat", "/", "[x]", "'", '"', ";", "?", "!", ".", "-", "_",
]  # fmt: skip


def texts(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 6)))


def pairs(count, seed):
    """A random text and one that is often near it."""
    rng = random.Random(seed)
    for text in texts(count, seed):
        other = next(texts(1, rng.random())) if rng.random() < 0.5 else text.swapcase()
        yield text, rng.choice((other, f"{other}{rng.choice(PIECES)}"))


def test_anls(theirs):
    original = theirs(
        "api/metrics.py", "evaluate", "sacrebleu", "lmms_eval", "lmms_eval.api",
        "lmms_eval.api.registry", "loguru", "sklearn", "sklearn.metrics",
    ).anls  # fmt: skip
    for one, other in pairs(3000, 1):
        answers = [other, one[::-1]]
        assert anls(one, answers) == original(answers, [one])["anls"], (one, answers)


def test_relaxed_accuracy(theirs):
    original = theirs("tasks/chartqa/utils.py").relaxed_correctness
    rng = random.Random(2)
    for one, other in pairs(3000, 2):
        assert relaxed_accuracy(one, other) == original(one, other), (one, other)
        number = rng.uniform(-50, 50)
        near = f"{number * rng.uniform(0.9, 1.1):.4g}{rng.choice(('', '%'))}"
        assert relaxed_accuracy(near, f"{number:.4g}") == original(near, f"{number:.4g}")


@pytest.mark.parametrize("dataset", ["HME100k", "IIIT5K"])
def test_ocrbench(theirs, dataset):
    module = theirs(
        "tasks/ocrbench/utils.py", "loguru", "lmms_eval", "lmms_eval.tasks",
        "lmms_eval.tasks._task_utils", "lmms_eval.tasks._task_utils.file_utils",
    )  # fmt: skip
    for one, other in pairs(3000, 3):
        for answers in (other[:2], [other, one[1:3]]):
            doc = {"answer": answers, "dataset": dataset, "question_type": ""}
            expected = module.ocrbench_process_results(doc, [one])["ocrbench_accuracy"]["score"]
            assert ocrbench(one, answers, dataset) == expected, (one, answers)


def test_option_letter(theirs):
    original = theirs("tasks/_task_utils/mcq_extract.py")
    for text in texts(5000, 4):
        for letters in ("ABCD", "ABCDE"):
            expected = original.extract_mcq_answer(text, choices=list(letters))
            assert option_letter(text, letters) == expected, text
    for phrase in original._ANSWER_PHRASES:
        text = f"D B: {phrase} C indeed"
        assert option_letter(text) == original.extract_mcq_answer(text, list("ABCD")), text


def test_mvbench(theirs):
    original = theirs(
        "tasks/mvbench/utils.py", "loguru", "lmms_eval", "lmms_eval.tasks",
        "lmms_eval.tasks._task_utils", "lmms_eval.tasks._task_utils.file_utils",
        "lmms_eval.tasks._task_utils.media_resolver", "decord", "cv2",
    ).mcq_acc  # fmt: skip
    for one, other in pairs(5000, 5):
        assert mvbench_accuracy(one, other) == original(other, one), (one, other)


def test_acc_at_iou(theirs):
    original = theirs(
        "tasks/refcoco/utils_rec.py", "datasets", "loguru", "lmms_eval", "lmms_eval.tasks"
    ).compute_accuracy
    rng = random.Random(6)
    for _ in range(3000):
        one, other = ([*(c := [rng.random() for _ in "xy"]), *(v + rng.random() for v in c)]
                      for _ in "ab")  # fmt: skip
        assert acc_at_iou(one, other) == original(other, one)
        assert acc_at_iou(one, one)
