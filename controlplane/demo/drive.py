"""The users' side: lets everybody of the workload ask, read, think and ask again."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx
import msgspec

from .chat import ChatFailed, Completion, chat
from .errors import DemoError
from .workload import Conversation, Message, User, Workload

_READY_S = 60.0
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that was answered: who asked what, and what came."""

    tenant: str
    module: str
    turn: int  # of the conversation, from 0
    prompt: str  # a digest: equal for equal prompts
    asked_at: float  # seconds on a monotonic clock
    completion: Completion


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not."""

    tenant: str
    why: str


Reply = Answer | Failure


@dataclass(frozen=True, slots=True)
class Target:
    """Where the model answers, under which name, and each tenant's key."""

    url: str  # ends in /v1
    model: str
    keys: Mapping[str, str]


async def drive(
    workload: Workload, target: Target, told: Callable[[Reply], None], pause: Pause = asyncio.sleep
) -> Sequence[Reply]:
    """Run all users side by side; `told` hears every reply as it comes. Raises `DemoError` if nothing ever answers."""
    async with httpx.AsyncClient(base_url=target.url, timeout=_TIMEOUT) as client:
        await _ready(client, target)
        desk = _Desk(client, target, workload.max_tokens, told, pause)
        async with asyncio.TaskGroup() as group:
            users = [group.create_task(_visit(desk, user)) for user in workload.users]
    return [reply for user in users for reply in user.result()]


@dataclass(frozen=True, slots=True)
class _Desk:
    """What all users have in common."""

    client: httpx.AsyncClient
    target: Target
    max_tokens: int
    told: Callable[[Reply], None]
    pause: Pause


async def _visit(desk: _Desk, user: User) -> Sequence[Reply]:
    replies: list[Reply] = []
    for conversation in user.conversations:
        replies += await _converse(desk, user.tenant, conversation)
    return replies


async def _converse(desk: _Desk, tenant: str, conversation: Conversation) -> Sequence[Reply]:
    """Each turn sends all before it, the model's own answers included. A turn that failed is left out of the rest."""
    said, replies = conversation.opening(), list[Reply]()
    for number, turn in enumerate(conversation.turns):
        await desk.pause(turn.think_s)
        messages = [*said, conversation.ask(number)]
        reply = await _ask(desk, tenant, conversation.module, number, messages)
        if isinstance(reply, Answer):
            said = [*messages, {"role": "assistant", "content": reply.completion.text}]
        desk.told(reply)
        replies.append(reply)
    return replies


async def _ask(desk: _Desk, tenant: str, module: str, turn: int, messages: Sequence[Message]) -> Reply:
    asked_at = time.monotonic()
    try:
        completion = await chat(desk.client, desk.target.keys[tenant], desk.target.model, messages, desk.max_tokens)
    except ChatFailed as exc:
        return Failure(tenant, str(exc))
    digest = hashlib.blake2b(msgspec.json.encode(messages), digest_size=8).hexdigest()
    return Answer(tenant, module, turn, digest, asked_at, completion)


async def _ready(client: httpx.AsyncClient, target: Target) -> None:
    url = f"{target.url.removesuffix('/v1')}/ready"
    try:
        async with asyncio.timeout(_READY_S):
            while (await client.get(url)).status_code != 200:
                await asyncio.sleep(0.1)
    except (TimeoutError, httpx.HTTPError) as exc:
        raise DemoError(f"{url} did not say in {_READY_S:.0f} s that the model can be asked: {exc!r}") from exc
