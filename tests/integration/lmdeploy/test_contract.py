"""The engine in TurboMind's place has what LMDeploy's front end calls, by LMDeploy's source."""

import ast
import inspect
from importlib.util import find_spec
from pathlib import Path

from cpu_engine import CpuEngine, CpuInstance
from lmdeploy.serve.core.exceptions import ErrorCode

from langchain_internvl.backends.lmdeploy.error_mapping import _TYPES

ROOT = Path(find_spec("lmdeploy").origin).parent


def class_of(file, name):
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def method_of(file, class_name, name):
    for node in class_of(file, class_name).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return node
    raise LookupError(f"{class_name}.{name}")


def parameters_of(node):
    arguments = node.args
    names = [one.arg for one in (*arguments.args, *arguments.kwonlyargs)]
    return names, arguments.kwarg is not None, isinstance(node, ast.AsyncFunctionDef)


def signature_of(function):
    parameters = inspect.signature(function).parameters.values()
    names = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD]
    takes_more = any(one.kind is one.VAR_KEYWORD for one in parameters)
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return names, takes_more, is_async


TURBOMIND = "turbomind/turbomind.py"


def test_a_request_has_the_parameters_of_turbominds():
    theirs = parameters_of(method_of(TURBOMIND, "TurboMindInstance", "async_stream_infer"))
    assert signature_of(CpuInstance.async_stream_infer) == theirs
    for name in ("async_cancel", "async_end"):
        theirs = parameters_of(method_of(TURBOMIND, "TurboMindInstance", name))
        assert signature_of(getattr(CpuInstance, name)) == theirs


def test_the_engine_has_the_methods_of_turbominds():
    for name in ("close", "get_schedule_metrics", "get_health_status"):
        theirs = parameters_of(method_of(TURBOMIND, "TurboMind", name))
        assert signature_of(getattr(CpuEngine, name)) == theirs
    assert method_of(TURBOMIND, "TurboMind", "create_instance")


def test_the_front_end_calls_nothing_else_of_an_engine():
    """`self.engine.X` in the front end, but for what only other deployments use."""
    tree = class_of("serve/core/async_engine.py", "AsyncEngine")
    called = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self.engine"
    }
    others = {"sleep", "wakeup", "complete_weights_update", "start_loop", "end_session",
              "p2p_initialize", "p2p_connect", "p2p_drop_connect"}  # fmt: skip
    ours = {name for name in dir(CpuEngine) if not name.startswith("_")} | {"engine_config"}
    assert called - others <= ours
    assert called & ours


def test_every_error_code_has_a_type_here():
    assert {code.value for code in ErrorCode} == set(_TYPES)
