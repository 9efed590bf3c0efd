"""Requests to vLLM and SGLang, checked by the servers' own request models and tiling.

The packages are in environments of their own, without their engines; see DEVELOPMENT.md.
"""

from importlib import import_module
from importlib.util import find_spec
from itertools import product

import pytest
import test_kinds
from fault_server import chunk, lines, words
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_internvl import video_block
from langchain_internvl.backends.server.kinds import USUAL_TILES, _tiles_at_sglang

CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CALLED = lines(chunk({"tool_calls": [CALL]}), chunk({}, "tool_calls"))
JSON = lines(*words('{"x": 1}'))
SCHEMA = {"title": "r", "type": "object", "properties": {"x": {"type": "integer"}}}
TOOLS = {"tools": [test_kinds.TOOL]}
HISTORY = [
    SystemMessage("Be brief."),
    HumanMessage([test_kinds.CAT, {"type": "text", "text": "What?"}]),
    AIMessage("", tool_calls=[{"id": c, "name": "look", "args": {}} for c in ("c1", "c2")]),
    ToolMessage([{"type": "text", "text": "seen"}, test_kinds.CAT], tool_call_id="c1"),
    ToolMessage("nothing", tool_call_id="c2"),
]
VIDEO = [HumanMessage([video_block(test_kinds.VIDEO, num_frames=2)])]
REQUESTS = [
    ("x", test_kinds.GOOD, {"temperature": 0}),
    ("x", test_kinds.GOOD, {"temperature": 0.7, "top_p": 0.9, "top_k": 3, "seed": -1,
                            "repetition_penalty": 1.1, "top_logprobs": 2}),
    (HISTORY, CALLED, TOOLS),
    *(("x", CALLED, {**TOOLS, "tool_choice": choice}) for choice in ("auto", "any", "look")),
    ("x", test_kinds.GOOD, {**TOOLS, "tool_choice": "none"}),
    ("x", CALLED, {**TOOLS, "parallel_tool_calls": False}),
    ("x", JSON, {"response_format": {"type": "json_object"}}),
    *(("x", JSON, {"response_format": {"type": "json_schema", "json_schema": {
        "name": "r", "strict": strict, "schema": SCHEMA}}}) for strict in (True, False)),
    *(("x", test_kinds.GOOD, {"reasoning": reasoning}) for reasoning in ("low", True, False)),
    (VIDEO, test_kinds.GOOD, {}),
    ([HumanMessage([test_kinds.CAT])], test_kinds.GOOD, {"max_tiles": 12}),
]  # fmt: skip

MODELS = {
    "vLLM": ("vllm", "vllm.entrypoints.openai.chat_completion.protocol"),
    "SGLang": ("sglang", "sglang.srt.entrypoints.openai.protocol"),
}


def own(package, module):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return import_module(module)


@pytest.mark.parametrize("name", MODELS)
def test_their_request_model_knows_every_field(name):
    model = own(*MODELS[name]).ChatCompletionRequest
    for messages, answer, settings in REQUESTS:
        body, _ = test_kinds.asked(name, messages, answer, **settings)
        request = model.model_validate(body)
        assert not request.model_extra, settings
        given = request.model_dump(exclude_unset=True)
        assert given["skip_special_tokens"] is False
        assert len(given["messages"]) == len(body["messages"])


def test_vllm_refuses_its_field_of_tiles_by_default():
    protocol = own("vllm", "vllm.entrypoints.generate.base.protocol")
    refuse = protocol.validate_request_mm_kwargs
    for messages, answer, settings in REQUESTS:
        body, _ = test_kinds.asked("vLLM", messages, answer, **settings)
        refuse(mm_processor_kwargs=body.get("mm_processor_kwargs"), media_io_kwargs=None,
               trust_request_mm_kwargs=False)  # fmt: skip
    cat = [HumanMessage([test_kinds.CAT])]
    body, _ = test_kinds.asked("vLLM", cat, max_tiles=20, min_tiles=15)
    with pytest.raises(Exception, match="Per-request mm_processor_kwargs are disabled"):
        refuse(mm_processor_kwargs=body["mm_processor_kwargs"], media_io_kwargs=None,
               trust_request_mm_kwargs=False)  # fmt: skip


def test_vllm_cuts_images_of_a_grid_into_that_grid():
    tiling = own("vllm", "vllm.transformers_utils.processors.internvl")
    ratios = tiling.get_internvl_target_ratios(1, USUAL_TILES)
    for columns, rows in product(range(1, 13), repeat=2):
        if columns * rows <= USUAL_TILES:
            count, *_ = tiling.calculate_internvl_targets(
                orig_width=448 * columns, orig_height=448 * rows, target_ratios=ratios,
                image_size=448, use_thumbnail=False,
            )  # fmt: skip
            assert count == columns * rows


def test_sglang_cuts_images_of_a_grid_as_the_warning_says():
    torch = pytest.importorskip("torch")
    module = own("sglang", "sglang.srt.multimodal.processors.internvl")
    cut = module.InternVLProcessor.dynamic_preprocess
    for columns, rows, limit in ((1, 1, 1), (1, 1, 12), (2, 1, 8), (4, 3, 12), (2, 2, 12)):
        # Tiles of 4 pixels, since only the ratio of the sides counts.
        tiles = cut(torch.zeros(3, 4 * rows, 4 * columns), image_size=4, max_num=limit)
        assert len(tiles) == _tiles_at_sglang(columns, rows, limit)
