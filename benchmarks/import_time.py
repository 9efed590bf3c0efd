"""What `import langchain_internvl; ChatInternVL` costs beyond LangChain's own chat model.

Each run is a fresh process; the fastest counts, as the others waited for something else.

    python benchmarks/import_time.py [runs]
"""

import os
import subprocess
import sys
import tempfile

PROGRAM = """
import sys, time
import langchain_core.language_models.chat_models
before, start = set(sys.modules), time.perf_counter()
import langchain_internvl
langchain_internvl.ChatInternVL
print(time.perf_counter() - start, len(set(sys.modules) - before))
"""


def main() -> None:
    """Print the time."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    times: list[float] = []
    modules = ""
    with tempfile.TemporaryDirectory() as folder:
        # As installed: modules are compiled, by a first run that does not count.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(runs + 1):
            done = subprocess.run(  # noqa: S603 - our own program
                [sys.executable, "-c", PROGRAM],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            )
            seconds, modules = done.stdout.split()
            times.append(float(seconds))
    del times[0]
    times.sort()
    print(
        f"import of ChatInternVL beyond langchain_core: {min(times) * 1000:.0f} ms "
        f"(median {times[len(times) // 2] * 1000:.0f} ms of {runs} runs), {modules} modules"
    )


if __name__ == "__main__":
    main()
