"""Prompts of several segments in vLLM, whose own salt is for a prompt as a whole. Runs in vLLM's core process.

A salt of ours there says where a public segment ends and which salt holds from there on; the block hashes, and what
is told of them, take a salt in where its segment begins.
"""

from typing import Any

from vllm.v1.core import block_pool, kv_cache_utils
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from .engine import EngineRequest
from .vllm_events import segment_key

_SEPARATOR = "\n"  # in no salt
_ExtraKeys = tuple[Any, ...] | None  # Any: vLLM tags what it hashes, each in a way of its own

_plain = kv_cache_utils.generate_block_hash_extra_keys


class SegmentScheduler(Scheduler):  # type: ignore[misc]  # vLLM is Any here
    """vLLM's own, in a process whose block hashes know segments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: vLLM's
        _know_segments()
        super().__init__(*args, **kwargs)


class SegmentAsyncScheduler(AsyncScheduler):  # type: ignore[misc]  # as above
    """The same where steps are scheduled ahead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: vLLM's
        _know_segments()
        super().__init__(*args, **kwargs)


def engine_salt(request: EngineRequest, block_tokens: int) -> str | None:
    """What vLLM is given as a prompt's salt."""
    public = request.public
    if public is None or not public.blocks:
        return request.salt or None
    return _SEPARATOR.join((public.salt, str(public.blocks * block_tokens), request.salt))


def extra_keys(request: Any, start: int, end: int, image: int) -> tuple[_ExtraKeys, int]:  # Any: vLLM's Request
    """What goes into the hash of a block besides its tokens; `start` and `end` count tokens."""
    keys, image = _plain(request, start, end, image)
    first, _, rest = (request.cache_salt or "").partition(_SEPARATOR)
    if not rest:
        return keys, image
    boundary, _, salt = rest.partition(_SEPARATOR)
    keys = tuple((tag, first) if tag == "cache_salt" else (tag, *key) for tag, *key in keys or ())
    if start == int(boundary):
        mark, salt = segment_key(salt, start) or ("", "")
        keys = (("segment", mark), ("cache_salt", salt), *keys)
    return keys or None, image


def _know_segments() -> None:
    for module in (kv_cache_utils, block_pool):
        module.generate_block_hash_extra_keys = extra_keys
