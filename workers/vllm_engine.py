"""vLLM's AsyncLLM as an engine of ours: our token ids, our salts, its KV events. Nothing else imports vLLM."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
from vllm import AsyncEngineArgs, SamplingParams
from vllm.config import KVEventsConfig, VllmConfig
from vllm.inputs.engine import tokens_input
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

from .engine import Capacity, Delta, EngineDead, EngineEvent, EngineLoad, EngineRequest, Unservable
from .vllm_blocks import KnownBlocks
from .vllm_segments import SegmentAsyncScheduler, SegmentScheduler, engine_salt
from .vllm_settings import VllmSettings
from .vllm_stream import subscribed
from .vllm_work import Work

_LEAVE_S = 15.0  # its core gives its workers five


class BadEngine(Exception):
    """vLLM has started, and is not what the settings say; what it holds would never be found."""


@asynccontextmanager
async def running(settings: VllmSettings, folder: Path) -> AsyncIterator["VllmEngine"]:
    """Start vLLM on a model folder, in processes of its own, and end them on leaving. Raises `BadEngine`."""
    with TemporaryDirectory(prefix="kvplane-") as private:  # its events carry salts: for this user alone
        work, sockets = Work(time.monotonic), _sockets(private)
        llm = await asyncio.to_thread(_start, _arguments(settings, folder, sockets), work)
        try:
            engine = VllmEngine(llm, capacity_of(llm.vllm_config, settings), sockets, work)
            try:
                yield engine
            finally:
                engine.close()
        finally:
            await asyncio.to_thread(llm.shutdown, _LEAVE_S)


class VllmEngine:
    """An `Engine`, alive while its AsyncLLM is."""

    def __init__(self, llm: AsyncLLM, capacity: Capacity, sockets: KVEventsConfig, work: Work) -> None:
        self._llm = llm
        self._capacity = capacity
        self._vocabulary: int = llm.model_config.get_vocab_size()
        self._sockets = sockets
        self._work = work
        self._known = KnownBlocks(capacity.block_tokens)
        self._closed = False

    def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Continue a prompt. Raises `Unservable` at once for one that can never fit; else `EngineDead`."""
        most = self._capacity.max_prompt_tokens
        if not 1 <= request.prompt_tokens <= most:
            raise Unservable(f"a prompt has 1 to {most} tokens here; got {request.prompt_tokens}")
        if (highest := np.frombuffer(request.words, "<u4").max()) >= self._vocabulary:
            raise Unservable(f"token ids are below {self._vocabulary} here; got {highest}")
        if request.sampling.max_tokens < 1:
            raise Unservable(f"max_tokens is at least 1; got {request.sampling.max_tokens}")
        return self._stream(request)

    async def events(self) -> AsyncGenerator[Sequence[EngineEvent], None]:
        sockets = self._sockets
        try:
            async with aclosing(subscribed(sockets.endpoint, sockets.replay_endpoint)) as batches:
                async for batch in batches:
                    self._known.take(batch)
                    yield batch
        except TimeoutError as exc:
            raise EngineDead("vLLM does not answer when it is asked for its events") from exc

    def load(self) -> EngineLoad:
        self._check_alive()
        return self._work.load(self._capacity.blocks)

    def capacity(self) -> Capacity:
        return self._capacity

    def close(self) -> None:
        """End all that wait, before vLLM finds its processes gone and calls that a failure."""
        self._closed = True
        if self._llm.output_handler is not None:
            self._llm.output_handler.cancel()
        self._llm.output_processor.propagate_error(EngineDeadError())

    async def _stream(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        self._check_alive()
        arrived = time.monotonic()
        job = self._work.begin(request.prompt_tokens - self._known.leading_tokens(request))
        salt = engine_salt(request, self._capacity.block_tokens)
        prompt = tokens_input(np.frombuffer(request.words, "<u4").tolist(), cache_salt=salt)
        try:
            async with aclosing(self._llm.generate(prompt, self._params(request), request.id)) as outputs:
                async for output in outputs:
                    job.began = True
                    yield _delta(output, arrived)
        except (EngineDeadError, EngineGenerateError) as exc:
            self._check_alive()
            raise EngineDead(f"vLLM could not go on: {exc}") from exc
        finally:
            self._work.end(job)

    def _params(self, request: EngineRequest) -> SamplingParams:
        sampling = request.sampling
        room = self._capacity.max_prompt_tokens + 1 - request.prompt_tokens
        return SamplingParams(
            max_tokens=min(sampling.max_tokens, room),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop_token_ids=list(sampling.stop_token_ids),
            ignore_eos=sampling.ignore_eos,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    def _check_alive(self) -> None:
        if self._closed:
            raise EngineDead("the engine has been closed")
        if self._llm.errored:
            raise EngineDead("vLLM's engine has died; its log says of what")


class _Steps(StatLoggerBase):  # type: ignore[misc]  # vLLM is Any here
    """Hears of every step."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:  # Any: vLLM's own types
        if scheduler_stats is not None:
            self._work.stepped(scheduler_stats.kv_cache_usage, scheduler_stats.num_running_reqs)

    def log_engine_initialized(self) -> None:
        pass


def _start(arguments: AsyncEngineArgs, work: Work) -> AsyncLLM:
    exported = [RayPrometheusStatLogger] if ray.is_initialized() else []  # vLLM's own metrics, by way of Ray's
    config = arguments.create_engine_config()
    scheduler = SegmentAsyncScheduler if config.scheduler_config.async_scheduling else SegmentScheduler
    config.scheduler_config.scheduler_cls = scheduler
    steps = [lambda *_: _Steps(work), *exported]
    return AsyncLLM.from_vllm_config(config, stat_loggers=steps, disable_log_stats=True)


def _sockets(folder: str) -> KVEventsConfig:
    return KVEventsConfig(
        enable_kv_cache_events=True,
        publisher="zmq",
        endpoint=f"ipc://{folder}/events",
        replay_endpoint=f"ipc://{folder}/replay",
    )


def _arguments(settings: VllmSettings, folder: Path, sockets: KVEventsConfig) -> AsyncEngineArgs:
    ours = {
        "model": str(folder),
        "dtype": settings.dtype,
        "skip_tokenizer_init": True,  # words come in and go out; routers tokenise
        "block_size": settings.block_tokens,
        "num_gpu_blocks_override": settings.blocks + 1 if settings.blocks else None,  # vLLM keeps one to itself
        "kv_cache_memory_bytes": settings.cache_bytes,
        "max_model_len": settings.max_context,
        "max_num_seqs": settings.max_sequences,
        "max_num_batched_tokens": settings.prefill_chunk,
        "enable_prefix_caching": True,
        "prefix_caching_hash_algo": "sha256_cbor",
        # Else a sliding window's blocks go early, and what is left of a prefix is no hit.
        "disable_hybrid_kv_cache_manager": True,
        "kv_events_config": sockets,
        "disable_log_stats": True,  # but for ours
    }
    if taken := ours.keys() & settings.arguments.keys():
        raise BadEngine(f"arguments of vLLM that are set otherwise, or not to be set: {', '.join(sorted(taken))}")
    try:
        return AsyncEngineArgs(**ours, **settings.arguments)
    except TypeError as exc:
        raise BadEngine(f"arguments: {exc}; vLLM's are those of its AsyncEngineArgs") from exc


def capacity_of(config: VllmConfig, settings: VllmSettings) -> Capacity:
    """What vLLM came to have. Raises `BadEngine` where the router could not find what it caches."""
    block_tokens, blocks = config.cache_config.block_size, config.cache_config.num_gpu_blocks - 1
    if block_tokens != settings.block_tokens:
        raise BadEngine(
            f"vLLM's blocks have {block_tokens} tokens here, and block_tokens says {settings.block_tokens}; "
            f"set block_tokens to {block_tokens}"
        )
    if not config.cache_config.enable_prefix_caching:
        raise BadEngine("vLLM caches no prefixes of this model, so there is nothing to route by; use another model")
    return Capacity(
        blocks=blocks,
        block_tokens=block_tokens,
        max_prompt_tokens=min(config.model_config.max_model_len, blocks * block_tokens) - 1,
        max_sequences=config.scheduler_config.max_num_seqs,
    )


def _delta(output: Any, arrived: float) -> Delta:  # Any: vLLM's RequestOutput
    """Times are of one clock, which all processes of a machine share."""
    [completion], times = output.outputs, output.metrics
    if completion.finish_reason not in (None, "stop", "length"):
        raise EngineDead(f"vLLM ended a request: {completion.finish_reason}")
    return Delta(
        token_ids=tuple(completion.token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        queue_ms=max(0.0, times.scheduled_ts - arrived) * 1e3,
        prefill_ms=(times.first_token_ts - times.scheduled_ts) * 1e3,
        finish=completion.finish_reason,
    )
