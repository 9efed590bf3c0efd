"""Regular expressions of tokenizers that would never end are refused."""

import pytest
from golden import checkpoint_folder
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from langchain_internvl.errors import CheckpointError
from langchain_internvl.prompting.tokenization import PromptTokenizer, load_tokenizer
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
    "groups": "(?:a+|b+)(?:c|d+)?e*", "possessive": "a++b*+c{3}",
    "exact": r"\d{2}:\d{2}:\d{2}" * 3 + r"\d{1,2}a{0,1}b{0,3}",
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
     "x(a*(b*(c*(d*))))", "a" * 5000, "[ab](c|d)+", "(?=(a+))+",
     "(a*a*)(a*a*)b", "(a*a*|c)(a*a*|c)b", "(?:a?a?a?a?a?)(?:a?a?a?a?a?)b", "a{1,3}+b",
     "a{1,3}{2,9}b", "a{0,100}a{0,100}a{0,100}a{0,100}b", "(?x)(a+) +b", "(?ix:(a+) #c\n+b)",
     "(?:a|aa)" * 30 + "b", "{(a+)*}b", "x{y(a+)*}", r"\p{L}{(a+)*}",
     "a{0,1}" * 9 + "b", "a{0,3}" * 5 + "b", "a{,3}" * 5 + "b", "a{1,3}" * 6 + "b",
     "(?:a|aa|aaa|aaaa)" * 5 + "b"],
)  # fmt: skip
def test_those_that_may_never_end_are_refused(pattern):
    with pytest.raises(CheckpointError, match=r"pre_tokenizer has the pattern .* forever"):
        check_patterns(state(pattern))
    replace = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    with pytest.raises(CheckpointError, match="normalizer has the pattern"):
        check_patterns({"normalizer": replace, "pre_tokenizer": None})


def test_a_tokenizer_with_such_an_expression_is_refused():
    loaded = load_tokenizer(checkpoint_folder("qwen2"))._tokenizer
    loaded.backend_tokenizer.pre_tokenizer = Split(Regex("(a+)+b"), "isolated")
    with pytest.raises(CheckpointError, match=r"'\(a\+\)\+b', which repeats a group"):
        PromptTokenizer(loaded)
