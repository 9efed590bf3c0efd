"""An engine that stands where TurboMind does, and runs on a CPU.

All of LMDeploy in front of it is real: pipeline, API server, proxy, sessions, processors. It steps
transformers' native model in float32, one token at a time, and records what reached it.
"""

import asyncio
import contextvars
import json
import logging
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import lmdeploy_setup  # noqa: F401 - before lmdeploy is imported
import torch
from lmdeploy._guided_decoding import compile_response_format
from lmdeploy.messages import EngineOutput, ResponseType, ScheduleMetrics
from transformers import DynamicCache

from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer

REQUEST_ID = contextvars.ContextVar("request_id", default=None)
"""Set by the server around each request; see `node_program.py`."""

FRONTS = []
"""LMDeploy's AsyncEngines of this process."""

HOLD_SECONDS = 1.0
"""Pause before each token of a reply that is held: hundreds of tokens last for minutes, however
late a caller leaves, and a server that looks for its caller at each token still does."""

FAULT_TOKEN = 7
"""A prompt that is this one token alone makes the engine fail."""


def log(request_id, event, **more):
    """Write down what happened to a request, where it outlives a process that is killed."""
    file = os.environ.get("CPU_ENGINE_LOG")
    if file and request_id:
        told = {"node": os.getpid(), "request": request_id, "event": event, **more}
        line = json.dumps(told) + "\n"
        with open(file, "a", encoding="utf-8") as opened:  # noqa: PTH123 - a single append
            opened.write(line)


@dataclass
class Seen:
    """What reached the engine with one request, and what became of it."""

    request_id: str | None
    input_ids: list[int]
    tiles: int
    token_ids: list[int] = field(default_factory=list)
    end: str | None = None


class CpuEngine:
    """The engine; see `CpuInstance` for a request."""

    is_dummy = False

    def __init__(self, model_path, engine_config, step_seconds=0.0):
        folder = Path(model_path)
        checkpoint = read_checkpoint(folder)
        self.tokenizer = load_tokenizer(folder)
        self.model = load_model(
            checkpoint, self.tokenizer.image_context_id, LoadOptions(dtype="float32")
        )
        self.engine_config = engine_config
        engine_config.max_batch_size = engine_config.max_batch_size or 4
        self.step_seconds = step_seconds
        self.hold_after: int | None = None  # tokens after which each reply is held
        self.seen: list[Seen] = []
        self.active = self.most_active = 0
        self.ticks = 0
        self.is_closed = False
        # One thread owns the model, as one GPU would.
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cpu-engine")
        self._lock = threading.Lock()
        self._compiler = None

    def create_instance(self, **_):
        return CpuInstance(self)

    def get_schedule_metrics(self):
        return ScheduleMetrics(active_seqs=self.active, scheduler_tick=self.ticks)

    async def get_health_status(self):
        return {"alive": True, "message": "", "schedule_metrics": self.get_schedule_metrics()}

    def close(self):
        self.is_closed = True
        self.worker.shutdown(wait=False)

    def matcher(self, response_format):
        """What a reply may be, or None."""
        if response_format is None:
            return None
        import xgrammar

        with self._lock:
            if self._compiler is None:
                tokenizer = self.tokenizer._tokenizer
                vocabulary = self.model.config.get_text_config().vocab_size
                info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
                self._compiler = xgrammar.GrammarCompiler(info)
            compiled = compile_response_format(self._compiler, response_format)
        return xgrammar.GrammarMatcher(compiled)


class CpuInstance:
    """Makes one reply at a time; LMDeploy keeps `max_batch_size` of them."""

    def __init__(self, engine):
        self._engine = engine
        self._cancelled = False

    async def _hold(self, tokens):
        """Wait before the next token of a reply that is held, unless it is cancelled."""
        end = time.monotonic() + HOLD_SECONDS
        while time.monotonic() < end and not self._cancelled:
            limit = self._engine.hold_after
            if limit is None or tokens < limit:
                return
            await asyncio.sleep(0.002)

    async def async_cancel(self, session_id=None):
        self._cancelled = True

    async def async_end(self, session_id):
        return

    async def async_stream_infer(  # noqa: PLR0917 - as TurboMind's
        self,
        session_id,
        input_ids,
        input_embeddings=None,
        input_embedding_ranges=None,
        multimodal=None,
        gen_config=None,
        stream_output=False,
        **kwargs,
    ):
        engine = self._engine
        self._cancelled = False
        tiles = [item["pixel_values"] for item in multimodal or ()]
        seen = Seen(REQUEST_ID.get(), list(input_ids), sum(map(len, tiles)))
        engine.seen.append(seen)
        log(seen.request_id, "begun", prompt=seen.input_ids[:8])
        engine.active += 1
        engine.most_active = max(engine.most_active, engine.active)
        loop = asyncio.get_running_loop()
        try:
            row = _Row(engine, input_ids, tiles, gen_config)
            while True:
                if engine.step_seconds:
                    await asyncio.sleep(engine.step_seconds)
                await self._hold(len(seen.token_ids))
                if self._cancelled:
                    seen.end = "cancelled"
                    yield EngineOutput(ResponseType.CANCEL, [])
                    return
                token_id, logprobs, is_last = await loop.run_in_executor(engine.worker, row.step)
                engine.ticks += 1
                seen.token_ids.append(token_id)
                if is_last:
                    seen.end = "finished"
                status = ResponseType.FINISH if is_last else ResponseType.SUCCESS
                yield EngineOutput(status, [token_id], logprobs and [logprobs])
                if is_last:
                    return
        except (GeneratorExit, asyncio.CancelledError):
            seen.end = seen.end or "cancelled"
            raise
        except Exception as error:
            logging.getLogger("cpu_engine").exception("a reply failed")
            seen.end = f"failed: {error}"
            yield EngineOutput(ResponseType.INTERNAL_ENGINE_ERROR, [])
        finally:
            engine.active -= 1
            log(seen.request_id, seen.end)


class _Row:
    """One reply in the making."""

    def __init__(self, engine, input_ids, tiles, config):
        if list(input_ids) == [FAULT_TOKEN]:
            raise RuntimeError("the prompt that fails")
        self._model = engine.model
        self._config = config
        self._inputs = {"input_ids": torch.tensor([list(input_ids)])}
        if tiles:
            self._inputs["pixel_values"] = torch.cat([one.float() for one in tiles])
        self._cache = DynamicCache()
        self._reply = []
        self._random = torch.Generator()
        self._random.manual_seed((config.random_seed or 0) % 2**63)
        self._stop_ids = set() if config.ignore_eos else set(config.stop_token_ids or ())
        self._matcher = engine.matcher(config.response_format)

    @torch.inference_mode()
    def step(self):
        output = self._model(
            **self._inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        logits = output.logits[0, -1].float()
        token_id = self._choose(self._bounded(logits))
        self._reply.append(token_id)
        self._inputs = {"input_ids": torch.tensor([[token_id]])}
        if self._matcher is not None and not self._matcher.is_terminated():
            assert self._matcher.accept_token(token_id)
        is_last = token_id in self._stop_ids or len(self._reply) >= self._config.max_new_tokens
        return token_id, self._logprobs(logits, token_id), is_last

    def _bounded(self, logits):
        if self._matcher is None or self._matcher.is_terminated():
            return logits
        import xgrammar

        mask = xgrammar.allocate_token_bitmask(1, len(logits))
        self._matcher.fill_next_token_bitmask(mask)
        bounded = logits[None].clone()
        xgrammar.apply_token_bitmask_inplace(bounded, mask)
        return bounded[0]

    def _choose(self, logits):
        config = self._config
        if config.top_k == 1:
            return int(logits.argmax())
        scores = logits / max(config.temperature, 1e-5)
        if config.top_k:
            least = scores.topk(min(config.top_k, len(scores))).values[-1]
            scores = scores.masked_fill(scores < least, -math.inf)
        ordered, order = scores.softmax(-1).sort(descending=True)
        ordered[(ordered.cumsum(-1) - ordered) >= config.top_p] = 0
        return int(order[torch.multinomial(ordered, 1, generator=self._random)])

    def _logprobs(self, logits, token_id):
        if not self._config.logprobs:
            return None
        logprobs = logits.log_softmax(-1)
        values, ids = logprobs.topk(self._config.logprobs)
        told = dict(zip(ids.tolist(), values.tolist(), strict=True))
        return {**told, token_id: float(logprobs[token_id])}


def install():
    """Put the engine where LMDeploy makes TurboMind."""
    import lmdeploy.archs
    import lmdeploy.vl.engine
    from lmdeploy.serve.core.async_engine import AsyncEngine

    def build(self, model_path, backend_config=None, **_):
        FRONTS.append(self)
        seconds = float(os.environ.get("CPU_ENGINE_STEP_SECONDS", "0"))
        return CpuEngine(model_path, backend_config, seconds)

    AsyncEngine._build_turbomind = build
    lmdeploy.archs.autoget_backend = lambda *_, **__: "turbomind"
    torch.cuda.mem_get_info = lambda *_: (0, 0)
    # Pixels in the type that this engine computes in: 16 bits would change its replies.
    lmdeploy.vl.engine._resolve_mm_feature_dtype = lambda *_: torch.float32


def state_of(front):
    """What an AsyncEngine and its engine are doing, as JSON."""
    return {
        "seen": [vars(one) for one in front.engine.seen],
        "active": front.engine.active,
        "most_active": front.engine.most_active,
        "sessions": len(front.session_mgr.sessions),
        "dispatched": front.session_mgr.request_handle_pool.num_dispatched,
    }
