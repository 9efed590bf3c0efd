"""Worker program that renders one chat template: JSON from standard input to standard output.

It imports nothing from the package; see `jinja_process`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any


def main() -> None:
    """Read a job, set the limits, render the template, and write the result."""
    job = json.load(sys.stdin)
    sys.path[:] = job["path"]
    _limit(job["seconds"], job["bytes"])
    text = render(job["template"], job["values"])
    if len(text) > job["characters"]:
        sys.exit("the template writes too much")
    sys.stdout.write(json.dumps(text))


def render(template: str, values: dict[str, Any]) -> str:
    """Render in transformers' sandbox, with the same filters and functions."""
    from jinja2 import TemplateError, nodes  # noqa: PLC0415 - found by the job's path
    from jinja2.ext import Extension, loopcontrols  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    class Generation(Extension):
        """`{% generation %}`, which marks assistant text and has no output of its own."""

        tags = {"generation"}  # noqa: RUF012 - jinja's own way

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(
                ["name:endgeneration"], drop_needle=True
            )
            return body

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda _form: ""
    return environment.from_string(template).render(**values)


def _limit(seconds: int, most_bytes: int) -> None:
    """Limit time and memory where the system supports it; the parent's timeout always applies."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    for kind, amount in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, most_bytes)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (amount, amount))


if __name__ == "__main__":
    main()
