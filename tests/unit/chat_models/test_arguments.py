"""Arguments of ChatInternVL and of its calls."""

import warnings

import pytest
from chat_support import IMAGE, MODEL, ask
from golden import SCAN, checkpoint_folder
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd
from langchain_core.runnables import (
    ConfigurableField,
    ConfigurableFieldMultiOption,
    ConfigurableFieldSingleOption,
)
from langchain_core.runnables.configurable import (
    RunnableConfigurableAlternatives,
    RunnableConfigurableFields,
)
from pydantic import ValidationError

from langchain_internvl import (
    ChatInternVL,
    GroundTool,
    InternVLToolkit,
    MediaPolicy,
    image_block,
    pdf_block,
)
from langchain_internvl.backends.base import Sampling
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import CheckpointNotFoundError, RequestError
from langchain_internvl.settings.call import CallSettings


def test_unknown_arguments_of_a_call_are_refused(llm):
    with pytest.raises(RequestError, match=r"takes no functions; it takes .*tools"):
        llm.invoke("x", functions=[])


def test_construction_loads_nothing_and_checks_arguments():
    ChatInternVL(model="/no/such/folder")
    with pytest.raises(CheckpointNotFoundError):
        ChatInternVL(model="/no/such/folder").invoke("x")
    with pytest.raises(ValidationError, match="never runs code"):
        ChatInternVL(trust_remote_code=True)
    with pytest.raises(ValidationError, match="backend is"):
        ChatInternVL(backend="vllm")
    with pytest.raises(ValidationError, match="internvl2_5"):
        ChatInternVL(chat_template="vicuna")
    for wrong in ({"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_k": 0.5}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            ChatInternVL(**wrong)


def test_typing_errors_are_warned_of():
    with pytest.warns(UserWarning, match=r"'max_token'; did you mean 'max_tokens'\?"):
        ChatInternVL(max_token=5)


def test_a_warning_points_at_the_line_that_is_wrong():
    with pytest.warns(UserWarning, match="max_token") as warned:
        ChatInternVL(max_token=5)
    assert warned[0].filename == __file__


def test_the_model_by_path_or_by_its_other_name(recwarn):
    assert ChatInternVL(model=checkpoint_folder("qwen2")).model == str(checkpoint_folder("qwen2"))
    assert ChatInternVL(model_name="a/b").model == "a/b"
    assert ChatInternVL(model="c/d", model_name="a/b").model == "c/d"
    assert not recwarn.list


def test_fields_are_described():
    own = ChatInternVL.model_fields.keys() - BaseChatModel.model_fields.keys()
    assert not [name for name in own if not ChatInternVL.model_fields[name].description]


def test_standard_arguments_of_other_providers_are_fine(recwarn):
    ChatInternVL(max_retries=2, streaming=True, timeout=60, stop=[])
    assert not recwarn.list


@pytest.mark.parametrize(
    "name",
    ["top_k", "seed", "max_tokens", "top_logprobs", "min_tiles", "max_tiles", "num_frames",
     "max_tiles_per_frame", "context_window", "temperature", "top_p", "timeout",
     "repetition_penalty", "max_retries"],
)  # fmt: skip
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers(llm, name, value):
    with pytest.raises(ValidationError, match=f"a number, not {value}"):
        ChatInternVL(**{name: value})
    if name in CallSettings.model_fields:
        with pytest.raises(RequestError, match=f"{name}.* a number, not {value}"):
            llm.invoke("x", **{name: value})


@pytest.mark.parametrize(
    "name", ["max_rows", "max_queued", "prefill_chunk", "feature_cache_bytes", "prefix_cache"]
)
def test_limits_that_cannot_be_none(name):
    """The first request ended with a bare TypeError."""
    with pytest.raises(ValidationError, match=f"{name} is .*, not None"):
        ChatInternVL(engine_options={name: None})


def test_true_and_false_are_no_limits():
    for options in ({"max_rows": True}, {"prefill_chunk": True}, {"feature_cache_bytes": False}):
        with pytest.raises(ValidationError, match="is a whole number from"):
            ChatInternVL(engine_options=options)
    with pytest.raises(ValidationError, match="max_concurrency, from 1"):
        ChatInternVL(base_url="http://h/v1", engine_options={"max_concurrency": True})
    for name in ("max_bytes", "max_pixels", "max_redirects", "timeout"):
        with pytest.raises(ValidationError, match="a number, not True"):
            MediaPolicy(**{name: True})


def test_values_that_configuration_files_hold_are_converted(llm, backend):
    llm.invoke("x", max_tokens="7", temperature="0.5", seed=3.0)
    (request,) = backend.requests
    assert (request.max_tokens, request.sampling) == (7, Sampling(temperature=0.5, seed=3))


# Every way to misspell an argument warns or raises.


@pytest.mark.parametrize(
    ("misspell", "meant"),
    [
        (lambda llm: llm.model_copy(update={"max_token": 1}), "max_tokens"),
        (lambda llm: llm.invoke("x", max_token=1), "max_tokens"),
        (lambda llm: llm.bind(tempratur=1).invoke("x"), "temperature"),
        (lambda llm: llm.render("x", default_sytem=None), "default_system"),
        (lambda llm: llm.bind_tools([], tool_chioce="none"), "tool_choice"),
        (lambda llm: llm.with_structured_output({"title": "a"}, max_token=1), "max_tokens"),
        (lambda llm: llm.render(ask({**image_block(IMAGE), "max_tile": 1})), "max_tiles"),
        (lambda llm: llm.render(ask({**image_block(IMAGE), "detial": "low"})), "detail"),
        (
            lambda llm: llm.render(
                ask({"type": "image_url", "image_url": {
                    "url": "data:image/png;base64," + image_block(IMAGE)["base64"], "detai": "low",
                }})
            ),
            "detail",
        ),
        (
            lambda llm: llm.render("x", tools=[{"type": "function", "function": {
                "name": "a", "paramters": {"type": "object"},
            }}]),
            "parameters",
        ),
        (lambda llm: llm.render("x", tools=[{"name": "a", "input_shema": {}}]), "input_schema"),
        (lambda llm: llm.render("x", response_format={"type": "json_object", "shema": {}}),
         "schema"),
        (lambda llm: GroundTool(llm=llm, media_polcy=MediaPolicy()), "media_policy"),
        (lambda llm: InternVLToolkit(llm=llm, return_image=True), "return_images"),
    ],
)  # fmt: skip
def test_misspelt_names_are_reported_with_what_they_mean(llm, misspell, meant):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises((UserWarning, RequestError), match=f"did you mean {meant!r}"):
            misspell(llm)


def test_a_policy_refuses_unknown_limits():
    for make in (
        lambda: MediaPolicy(max_pixel=1),
        lambda: MediaPolicy().model_copy(update={"max_pixel": 1}),
        lambda: ChatInternVL(media_policy={"max_pixel": 1}),
        lambda: MediaPolicy().model_copy(update={"max_pixels": -1}),
    ):
        with pytest.raises(ValidationError, match="max_pixel"):
            make()
    assert MediaPolicy(max_pages=3).model_copy(update={"max_pixels": 5}).max_pages == 3


def test_options_of_another_medium_are_reported(llm):
    for block, name in (
        ({**image_block(IMAGE), "num_frames": 3}, "num_frames"),
        ({**image_block(IMAGE), "pages": "1"}, "pages"),
        ({**pdf_block(SCAN), "bound": (0, 1)}, "bound"),
    ):
        with pytest.warns(UserWarning, match=f"message 1 .human., block 1: {name} has no effect"):
            llm.render(ask(block))


def test_fields_of_other_providers_are_no_typing_errors(llm, recwarn):
    block = {**image_block(IMAGE), "cache_control": {"type": "ephemeral"}, "title": "a", "id": "b",
             "index": 0, "alt_text": "x", "extras": {"page_number": 3}}  # fmt: skip
    llm.render(ask(block))
    tool = {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}},
            "cache_control": {"type": "ephemeral"}}  # fmt: skip
    llm.render("x", tools=[tool])
    assert not recwarn.list


def test_log_probabilities_that_are_switched_off(llm, backend):
    """As in OpenAI's API, where `top_logprobs` needs `logprobs`."""
    both = {"logprobs": False, "top_logprobs": 2}
    with pytest.raises(ValidationError, match="top_logprobs needs logprobs"):
        ChatInternVL(**both)
    with pytest.raises(RequestError, match="top_logprobs needs logprobs"):
        llm.invoke("x", **both)
    on = llm.model_copy(update={"top_logprobs": 2})
    off = llm.model_copy(update={"logprobs": False})
    on.invoke("x")
    on.invoke("x", logprobs=False)
    off.invoke("x", top_logprobs=3)
    off.invoke("x")
    on.model_copy(update={"logprobs": False}).invoke("x")
    off.model_copy(update={"top_logprobs": 4}).invoke("x")
    llm.invoke("x", logprobs=True)
    llm.invoke("x", top_logprobs=0)
    assert [one.top_logprobs for one in backend.requests] == [2, None, 3, None, None, 4, 0, 0]


def test_configurable_fields(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, top_logprobs=2).configurable_fields(
        temperature=ConfigurableField("heat"), max_tokens=ConfigurableField("length")
    )
    llm.with_config(configurable={"heat": 0.5, "length": 9}).invoke("x")
    llm.invoke("x")
    first, second = backend.requests
    assert (first.sampling.temperature, first.max_tokens, first.top_logprobs) == (0.5, 9, 2)
    assert (second.sampling.temperature, second.max_tokens) == (0, 1024)
    with pytest.raises(ValueError, match="typo"):
        ChatInternVL(model=MODEL, backend=backend).configurable_fields(typo=ConfigurableField("a"))


def test_configured_models_have_only_the_given_settings(monkeypatch):
    monkeypatch.setenv("INTERNVL_API_KEY", "k")
    backend = ScriptedBackend(["one two three"] * 4)
    fields = {"temperature": ConfigurableField("heat"), "max_tokens": ConfigurableField("length")}
    llm = ChatInternVL(backend=backend).configurable_fields(**fields)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither the key nor the numbers of images were given
        chunks = list(llm.with_config(configurable={"heat": 0.5, "length": 2}).stream("x"))
        made, _ = llm.prepare({"configurable": {"length": 7}})
    assert [one.content for one in chunks] == ["one", " two"]
    assert made.profile["max_output_tokens"] == 7
    whole = ChatInternVL(backend=backend, streaming=False).configurable_fields(**fields)
    chunks = whole.with_config(configurable={"length": 2}).stream("x")
    assert [one.content for one in chunks] == ["one two"]
    assert dumpd(llm)["id"] == RunnableConfigurableFields.lc_id()


def test_configurable_fields_apply_to_bound_tools_and_schemas(backend):
    llm = ChatInternVL(backend=backend).configurable_fields(max_tokens=ConfigurableField("length"))
    schema = {"title": "size", "type": "object", "properties": {"n": {"type": "integer"}}}
    bound = llm.bind_tools([schema], tool_choice="none")
    reader = llm.with_structured_output(schema, include_raw=True, temperature=0.5)
    config = {"configurable": {"length": 7}}
    for one in (bound, reader):
        one.invoke("x", config)
        one.invoke("x")
    list(bound.with_config(config).stream("x"))
    assert [one.max_tokens for one in backend.requests] == [7, 1024, 7, 1024, 7]
    assert [one.sampling.temperature for one in backend.requests] == [0, 0, 0.5, 0.5, 0]
    with pytest.raises(RequestError):
        llm.bind_tools([schema], max_tokens=0)


def test_configurable_fields_with_options(backend):
    heat = ConfigurableFieldSingleOption("mood", {"calm": 0, "wild": 1.5}, "wild")
    stops = ConfigurableFieldMultiOption("ends", {"dot": ".", "line": "\n"}, ["dot"])
    llm = ChatInternVL(model=MODEL, backend=backend).configurable_fields(temperature=heat)
    llm = llm.configurable_fields(stop=stops)
    llm.invoke("x")
    llm.with_config(configurable={"mood": "calm", "ends": ["line", "dot"]}).invoke("x")
    first, second = backend.requests
    assert (first.sampling.temperature, first.stop[1:]) == (1.5, ["."])
    assert (second.sampling.temperature, second.stop[1:]) == (0, ["\n", "."])


@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize("also", ["nothing", "fields", "other alternatives"])
def test_alternatives_have_the_bound_tools_and_schemas(backend, also, is_lazy):
    other = ScriptedBackend(['{"n": 2}'] * 4)
    big = ChatInternVL(backend=other)
    llm = ChatInternVL(backend=backend)
    if also == "fields":
        llm = llm.configurable_fields(max_tokens=ConfigurableField("length"))
    if also == "other alternatives":
        llm = llm.configurable_alternatives(ConfigurableField("small one"), same=llm)
    which = ConfigurableField("size")
    llm = llm.configurable_alternatives(which, big=(lambda: big) if is_lazy else big)
    schema = {"title": "size", "type": "object", "properties": {"n": {"type": "integer"}}}
    bound = llm.bind_tools([schema], tool_choice="none", temperature=0.5)
    reader = llm.with_structured_output(schema, include_raw=True)
    config = {"configurable": {"size": "big", "length": 7}}
    assert reader.invoke("x", config)["parsed"] == {"n": 2}
    assert bound.with_config(config).invoke("x").text == '{"n": 2}'
    assert [chunk.text for chunk in bound.stream("x", config)] == ['{"n":', " 2}"]
    assert [one.sampling.temperature for one in other.requests] == [0, 0.5, 0.5]
    assert not backend.requests
    bound.invoke("x", {"configurable": {"length": 7}})
    (request,) = backend.requests
    assert (request.sampling.temperature, request.max_tokens) == (
        0.5,
        7 if also == "fields" else 1024,
    )
    assert dumpd(llm)["id"] == RunnableConfigurableAlternatives.lc_id()
    with pytest.raises(RequestError):
        llm.bind_tools([schema], max_tokens=0)


def test_a_second_config_keeps_the_first(backend):
    other = ScriptedBackend(["yes"] * 2)
    llm = ChatInternVL(backend=backend).configurable_fields(max_tokens=ConfigurableField("length"))
    short = llm.with_config(configurable={"length": 7}).with_config(tags=["a"])
    short.invoke("x")
    assert (backend.requests[0].max_tokens, short.config["tags"]) == (7, ["a"])
    which = ConfigurableField("size")
    both = llm.configurable_alternatives(which, big=ChatInternVL(backend=other))
    big = both.bind(temperature=0.5).with_config(configurable={"size": "big"})
    assert big.with_config({"tags": ["a"]}).invoke("x").text == "yes"
    big.with_config(configurable={"size": "default"}).invoke("x")
    assert (len(backend.requests), len(other.requests)) == (2, 1)
