"""Entry point of decoding processes, whose crashes, hangs and memory errors stay in them.

A process reads its task, a line of JSON, from standard input and writes records to standard output.
It ends with its standard input: nobody else stops a decoder whose parent was killed.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from langchain_internvl.errors import MediaError, MediaTooLargeError, RequestError
from langchain_internvl.media.records import FAULT, LACK, LIMIT, REFUSAL, write_record

Decode = Callable[[Mapping[str, Any], BinaryIO], None]
"""Function that performs a task and writes its records."""


def main(decode: Decode) -> None:
    """Perform the task on standard input.

    Args:
        decode: Function of the task. Its ImportError means that an optional module is missing.
    """
    # Libraries print to standard output too, so the records get a separate descriptor. So does the
    # input: on Windows, libraries that look at it when they are loaded wait for a read of it.
    records, tasks = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    task = json.loads(tasks.readline())
    threading.Thread(target=_end_with, args=(tasks,), daemon=True).start()
    _limit_memory(task["max_memory"])
    try:
        decode(task, records)
    except RequestError as error:
        write_record(records, REFUSAL, str(error).encode())
    except MediaTooLargeError as error:
        write_record(records, LIMIT, error.reason.encode())
    except MediaError as error:
        write_record(records, FAULT, error.reason.encode("utf-8", "replace"))
    except ImportError as error:
        write_record(records, LACK, str(error).encode("utf-8", "replace"))
    except MemoryError:
        limit = (
            f"decoding needs more than {task['max_memory'] >> 20} MiB of memory; "
            "reduce its width and height"
        )
        write_record(records, LIMIT, limit.encode())
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        # Errors of this package's own checks are ValueErrors, and need no type before them.
        text = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        write_record(records, FAULT, text.encode("utf-8", "replace"))
    records.flush()
    os._exit(0)  # skips the clean-up of libraries, which may hang


def check_size(width: int, height: int, task: Mapping[str, Any]) -> None:
    """Refuse images with too many pixels.

    Raises:
        MediaTooLargeError: The image has more pixels than the task allows.
    """
    if width * height > task["max_pixels"]:
        raise MediaTooLargeError(
            "",
            f"{width} x {height} pixels are over MediaPolicy.max_pixels={task['max_pixels']}",
        )


def _end_with(stream: BinaryIO) -> None:
    """End this process, whatever it is doing, when a stream ends."""
    stream.read()
    os._exit(1)


def _limit_memory(most: int) -> None:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
