"""Regular expressions of tokenizers that would never end are refused."""

import json
import shutil

import pytest
from golden import checkpoint_folder

from langchain_internvl import ChatInternVL
from langchain_internvl.errors import CheckpointError
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.prompting.tokenizer_patterns import check_patterns

KNOWN = {
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"
    r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
    r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek": r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?"""
    r"[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "digits": r"\d{3,}", "class": "[]a]+[^]]*", "braces": "a{b}", "one": "(?:ab){1}",
}  # fmt: skip


def state(pattern):
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}, "normalizer": None}


@pytest.mark.parametrize("name", KNOWN)
def test_those_of_model_families_are_fine(name):
    check_patterns(state(KNOWN[name]))


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|a)*b", "(a|aa)+$", "(?:x{1,}){5,}", "((a*)*)*", "(a?){50}a{50}", "(?:a+){2}",
     "a?" * 30 + "a" * 30, "a*a*a*a*b", ".*?.*?.*?.*?x", r"(.)\1+", r"(?<x>a)\k<x>",
     "x(a*(b*(c*(d*))))", "a" * 5000, "[ab](c|d)+", "(?=(a+))+"],
)  # fmt: skip
def test_those_that_may_never_end_are_refused(pattern):
    with pytest.raises(CheckpointError, match=r"pre_tokenizer has the pattern .* forever"):
        check_patterns(state(pattern))
    replace = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    with pytest.raises(CheckpointError, match="normalizer has the pattern"):
        check_patterns({"normalizer": replace, "pre_tokenizer": None})


def test_a_checkpoint_with_such_a_tokenizer_is_refused(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint_folder("qwen2"), folder)
    load_tokenizer(folder).save(folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text("utf-8"))
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence", "pretokenizers": [
            state("(a+)+b")["pre_tokenizer"]["pretokenizers"][0], tokenizer["pre_tokenizer"]],
    }  # fmt: skip
    file.write_text(json.dumps(tokenizer), "utf-8")
    with pytest.raises(CheckpointError, match=r"'\(a\+\)\+b', which repeats a group"):
        ChatInternVL(model=folder).render("a" * 5000)
