"""Dynamo's SelectionService, the index that Ray's own KV-aware router asks; in the optional ai-dynamo-runtime."""

import asyncio
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import IO, Any

import msgspec
from dynamo.llm import SelectionService

from .errors import BenchError
from .forest import BLOCK_TOKENS, Prompt, Stretch
from .index import Apply, Look
from .peers import SERVICE

_MODEL = {"model_name": "bench", "tenant_id": "bench"}
_READY_S = 60.0
_APPLIED_S = 600.0
_HEADER = struct.Struct("<III")  # replica, number of the message, bytes


class DynamoService:
    """Fed over ZMQ as an engine feeds it, by another process, so that only what it does itself is measured."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas
        self._sent = [0] * replicas
        self._marks = 0
        self._loop = asyncio.new_event_loop()
        self._service = SelectionService(indexer_threads=4)
        self._feed = subprocess.Popen(
            [sys.executable, "-m", "kvplane.tests.bench.zmq_feed", str(replicas)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def open(self) -> None:
        """Have the service listen to every replica. Raises `BenchError`."""
        assert self._feed.stdout is not None, "it is a pipe"
        endpoints = msgspec.json.decode(self._feed.stdout.readline() or b"[]", type=list[str])
        if len(endpoints) != self._replicas:
            raise BenchError("the process that feeds Dynamo's service did not start; is pyzmq installed?")
        self._loop.run_until_complete(self._listen(endpoints))
        if self._feed.stdout.readline() != b"joined\n":
            raise BenchError("Dynamo's service did not listen to all replicas")

    def store(self, stretches: Iterable[Stretch]) -> Apply:
        messages = [(replica, payload) for one in stretches for payload in (_stored(one),) for replica in one.replicas]
        return partial(self._apply, messages)

    def remove(self, stretches: Iterable[Stretch]) -> Apply:
        """A block an event, deepest first, as vLLM tells of what it evicts."""
        messages = [
            (replica, payload)
            for one in reversed(list(stretches))
            for payload in [_payload(["BlockRemoved", [name], "GPU"]) for name in reversed(one.names)]
            for replica in one.replicas
        ]
        return partial(self._apply, messages)

    def looks(self) -> Mapping[str, Look]:
        return {SERVICE: Look(self._ask, _right)}

    def close(self) -> None:
        self._service.shutdown()
        self._loop.close()
        self._feed.kill()
        self._feed.communicate()

    async def _listen(self, endpoints: Sequence[str]) -> None:
        for replica, endpoint in enumerate(endpoints):
            worker = {
                "worker_id": replica,
                "endpoint": f"ray://{replica}",
                "block_size": BLOCK_TOKENS,
                "max_num_batched_tokens": 8192,
                "data_parallel_start_rank": 0,
                "data_parallel_size": 1,
                "kv_events_endpoints": {0: endpoint},
            }
            await self._service.upsert_worker(_MODEL | worker)

    def _apply(self, messages: Sequence[tuple[int, bytes]]) -> None:
        """Send all, and a block never seen before to every replica; wait until that is known of every replica."""
        pipe = self._feed.stdin
        assert pipe is not None, "it is a pipe"
        self._marks += 1
        tokens = [self._marks] * BLOCK_TOKENS
        mark = _payload(["BlockStored", [self._marks], None, tokens, BLOCK_TOKENS, None, "GPU"])
        for replica, payload in (*messages, *((replica, mark) for replica in range(self._replicas))):
            self._send(pipe, replica, payload)
        pipe.flush()
        deadline = time.monotonic() + _APPLIED_S
        while not self._loop.run_until_complete(self._all_have(tokens)):
            if time.monotonic() > deadline:
                raise BenchError(f"Dynamo's service did not apply {len(messages)} messages in {_APPLIED_S} s")
            time.sleep(0.02)

    def _send(self, pipe: IO[bytes], replica: int, payload: bytes) -> None:
        pipe.write(_HEADER.pack(replica, self._sent[replica], len(payload)) + payload)
        self._sent[replica] += 1

    async def _all_have(self, tokens: Sequence[int]) -> bool:
        scores = await self._service.overlap_scores(_MODEL | {"token_ids": [*tokens, 0]})
        return [worker["device_blocks"] for worker in scores["workers"]] == [1] * self._replicas

    def _ask(self, prompts: Sequence[Prompt]) -> Sequence[object]:
        return self._loop.run_until_complete(self._asked(prompts))

    async def _asked(self, prompts: Sequence[Prompt]) -> Sequence[object]:
        select = self._service.select
        return [await select({**_MODEL, "token_ids": prompt.token_ids}) for prompt in prompts]


def _stored(stretch: Stretch) -> bytes:
    tokens = list(memoryview(stretch.words).cast("I"))
    return _payload(["BlockStored", list(stretch.names), stretch.parent, tokens, BLOCK_TOKENS, None, "GPU"])


def _payload(event: Sequence[Any]) -> bytes:  # Any: a vLLM event as an array
    return msgspec.msgpack.encode([0.0, [event], 0])


def _right(answer: object, prompt: Prompt) -> bool:
    assert isinstance(answer, dict)
    longest: int = answer["overlap"]["longest_matched"]
    return longest == max(prompt.extents.values(), default=0) * BLOCK_TOKENS
