"""A loaded LMDeploy pipeline, prompted by token ids in its own event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from langchain_internvl._optional import require
from langchain_internvl.backends.base import Delta, EngineStats, FinishReason, Request, Usage
from langchain_internvl.backends.bridge import Bridge, ReplyDeadline
from langchain_internvl.backends.lmdeploy.error_mapping import to_error
from langchain_internvl.backends.lmdeploy.generation import (
    StopRule,
    eos_ids,
    refuse_choices,
    response_format,
    sampling_parameters,
    seed_of,
)
from langchain_internvl.backends.lmdeploy.prompts import FoldedPrompt, fold
from langchain_internvl.backends.token_reply import TokenReply
from langchain_internvl.errors import BackendError, CheckpointError, InternVLError

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class Engine:
    """LMDeploy's pipeline of one checkpoint.

    Args:
        folder: A view of the checkpoint; see `view`.
        config: LMDeploy's engine config.
        checkpoint: The checkpoint.
        tokenizer: Its tokenizer.

    Raises:
        CheckpointError: LMDeploy cannot load it.
        ImportError: The extra `lmdeploy` is not installed.
    """

    def __init__(
        self, folder: Path, config: Any, checkpoint: Checkpoint, tokenizer: PromptTokenizer
    ) -> None:
        lmdeploy = require("lmdeploy", extra="lmdeploy")
        self._lmdeploy = lmdeploy
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer
        try:
            self._pipe = lmdeploy.pipeline(
                str(folder), backend_config=config, trust_remote_code=False
            )
        except Exception as error:  # any type: CUDA, memory, files
            reason = f"{type(error).__name__}: {error}"
            raise CheckpointError(f"LMDeploy cannot load {checkpoint.folder}: {reason}") from error
        most = int(self._pipe.backend_config.max_batch_size)
        self._bridge = Bridge(self._pipe.internal_thread.loop, most)
        self._eos_ids = eos_ids(checkpoint, tokenizer)

    @property
    def stats(self) -> EngineStats:
        """Numbers of running and waiting requests."""
        return self._bridge.stats

    def stream(self, request: Request, deadline: ReplyDeadline) -> Generator[Delta, None, None]:
        """Answer a request; see `Backend.stream`."""
        yield from self._bridge.stream(self._prepare(request), deadline)

    async def astream(
        self, request: Request, deadline: ReplyDeadline
    ) -> AsyncGenerator[Delta, None]:
        """Answer a request in an event loop; see `stream`."""
        async with aclosing(self._bridge.astream(self._prepare(request), deadline)) as deltas:
            async for delta in deltas:
                yield delta

    def close(self) -> None:
        """End all requests and free the memory; may be called twice."""
        self._pipe.close()

    def _prepare(self, request: Request) -> partial[AsyncGenerator[Delta, None]]:
        refuse_choices(request)
        prompt = fold(request, self._tokenizer.image_context_id, self._checkpoint.tokens_per_tile)
        rule = StopRule(request, self._eos_ids)
        return partial(self._answer, request, prompt, rule, self._generation(request, rule))

    def _generation(self, request: Request, rule: StopRule) -> Any:
        """LMDeploy's GenerationConfig."""
        top = request.top_logprobs
        return self._lmdeploy.GenerationConfig(
            max_new_tokens=request.max_tokens,
            do_sample=True,
            random_seed=seed_of(request.sampling),
            # Not stop_words: they match every token that contains one, and never span tokens.
            stop_token_ids=sorted(rule.ids),
            ignore_eos=rule.ignores_eos,
            include_stop_str_in_output=True,
            logprobs=None if top is None else max(top, 1),
            response_format=response_format(request),
            **sampling_parameters(request.sampling),
        )

    async def _answer(
        self, request: Request, prompt: FoldedPrompt, rule: StopRule, generation: Any
    ) -> AsyncGenerator[Delta, None]:
        """The reply, generated in LMDeploy's loop; closing the generator aborts the request."""
        engine = self._pipe.async_engine
        session = engine.session_mgr.get()
        reply = TokenReply(request, self._tokenizer.token_bytes, rule.ids)
        given = (
            {"messages": _messages(prompt)}
            if prompt.tiles
            else {"messages": None, "input_ids": prompt.ids}
        )
        try:
            made = await engine.preprocess(session_id=session, gen_config=generation, **given)
            async with aclosing(engine.generate(made, stream_response=True)) as outputs:
                async for output in outputs:
                    for delta in reply.push(output.token_ids or (), output.logprobs):
                        yield delta
                    if reply.is_over:
                        return
                    if output.finish_reason is not None:
                        yield _ended(reply, output)
                        return
        except InternVLError:
            raise
        except Exception as error:
            code = getattr(error, "code", None)  # LMDeploy's RequestError
            if code is None:
                reason = f"{type(error).__name__}: {error}"
                raise BackendError(f"LMDeploy failed: {reason}") from error
            raise to_error(code.value, str(error)) from error
        finally:
            engine.session_mgr.remove(session)


def _messages(prompt: FoldedPrompt) -> list[dict[str, Any]]:
    """One message: the token ids in place of its text, and the tiles as images."""
    tiles = [
        {
            "type": "image_data",
            "image_data": {"data": Image.fromarray(tile), "max_dynamic_patch": 1},
        }
        for tile in prompt.tiles
    ]
    return [{"role": "user", "content": [{"type": "text", "text": prompt.ids}, *tiles]}]


def _ended(reply: TokenReply, output: Any) -> Delta:
    """The last delta of a reply without a stop token: LMDeploy's own limit, or an abort."""
    reason = _REASONS.get(output.finish_reason)
    if reason is None:
        raise BackendError(f"LMDeploy gave up the reply: {output.finish_reason}")
    usage = Usage(output.input_token_len, output.generate_token_len, output.cached_tokens)
    return reply.end(reason, usage)
