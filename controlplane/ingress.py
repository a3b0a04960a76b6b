"""The ingress deployment: opens what a router needs, and is the front that the HTTP surface speaks to."""

import asyncio
import hmac
import logging
import os
import random
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from functools import partial

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from ..directory import Domain, HolderId, Keyring, Mirror, Overlay, open_pages
from ..directory.epochs import EpochHoldings, NameEpochs
from ..directory.wire import Served
from ..policies import PolicySettings, build_policy
from ..workers import Ending, Lifetime, Sampling, open_usage, prepare_model
from .accounts import EVERYONE, BookReader, Caller
from .accounts.settings import open_accounts
from .answer import Answer, Piece, pieces
from .config import Settings
from .decide import Asked, Decider
from .decision import Decision
from .directory_report import MirrorReport
from .directory_verify import Mirrored
from .epoch_reader import EpochReader
from .errors import LimitReached
from .fair_queue import FairQueue
from .fleet import ServeFleet, told
from .gate import Gate
from .handle_wire import HandleWire
from .http import build_http
from .inspector import Inspector
from .limits import Admission
from .lines import LinedWire, Lines
from .loopback import check_loopback
from .meeting import Meeting
from .metrics import Metrics, RouterState
from .openai import Chat, Completion, sampling
from .operator import operator_key
from .prompt import room as room_for
from .prompt import words_of
from .public import Lead, PublicPrefixes
from .public_probing import Probing
from .registrar import RouterGrant
from .room import SPARE, Room
from .roster import roster_of
from .router_half import Attempt, RouterHalf, Wire
from .router_status import RouterStatus, page_status
from .scope import affinity_of, part_of
from .sight import Sight
from .tokens import load_tokens
from .tracing import open_tracing

log = logging.getLogger(__name__)

_ANYONE = Caller(EVERYONE, Domain(EVERYONE.organisation, EVERYONE.workspace))
_HEAR_OUT_S = 2.0
_READ_S = 10.0


@serve.ingress()
class Ingress:
    """One router process."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self, settings: Settings, replicas: DeploymentHandle, registrar: DeploymentHandle
    ) -> None:
        self._settings = settings
        self._router = serve.get_replica_context().replica_id.unique_id
        self._replicas = replicas
        self._registrar = registrar
        self._roster = roster_of(replicas.deployment_name)
        self._lifetime = Lifetime()
        grant: RouterGrant = await registrar.grant.remote()
        await self._lifetime.open(lambda stack, tasks: self._open(grant, stack, tasks))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return build_http(self)

    @property
    def model(self) -> str:
        return self._settings.name

    @property
    def needs_key(self) -> bool:
        return not self._settings.open

    def caller(self, key: str) -> Caller | None:
        return self._book.caller(key) if self.needs_key else _ANYONE

    async def answer(self, caller: Caller, asking: Chat | Completion, traceparent: str | None) -> Answer:
        """Tokenise, let in, decide, bring to the first token. Raises `ApiError`."""
        arrived = time.perf_counter()
        capacity = await self._meeting.known()
        words = await words_of(asking, self._tokens, capacity)
        limits = self._settings.router
        default = Sampling(limits.default_max_tokens, limits.default_temperature, limits.default_top_p)
        draw = sampling(asking, self._tokens.stop_token_ids, room_for(words, capacity), default)
        try:
            async with AsyncExitStack() as stack:
                admission = await self._gate.admit(caller, len(words) // 4, draw.max_tokens)
                stack.push_async_callback(admission.close)
                asked = await self._asked(caller, asking, words, draw, traceparent)
                answering = await self._half.answer(asked, draw, await self._turn(stack, caller, asked))
                stack.push_async_callback(answering.close)
                closing = partial(self._ended, admission, stack.pop_all())
        except LimitReached as exc:
            exc.headers = self._gate.headers(caller)
            raise
        self._metrics.ttft.observe(time.perf_counter() - arrived)
        text = pieces(answering, len(words) // 4, self._tokens.detokenizer(), asking.stops)
        return Answer(answering.decision.id, text, closing, self._gate.headers(caller))

    def ready(self) -> str | None:
        if self._meeting.capacity is None:
            return "the first replica"
        if self.needs_key and not self._book.is_read:
            return "the accounts store"
        # A directory that is down must not hold requests up.
        reading = time.monotonic() < self._meeting.met_at + _READ_S
        unread = [replica for replica in self._roster.live if self._mirror.seen(HolderId(replica)) is None]
        return f"the page of {unread[0]}" if unread and reading else None

    @property
    def metrics_need_key(self) -> bool:
        return self._settings.router.metrics_need_key

    def metrics(self) -> bytes:
        return self._metrics.render()

    def count(self, endpoint: str, status: int) -> None:
        self._metrics.requests.labels(endpoint, str(status)).inc()

    def is_operator(self, key: str) -> bool:
        return hmac.compare_digest(key.encode(), self._operator_key.encode())

    async def report(self) -> dict[str, object]:
        """What registrar, replicas and routers say of themselves."""
        return {
            "registrar": (await told(self._registrar, "status"))[0],
            "replicas": await told(self._replicas, "status"),
            "routers": await told(_routers(), "status"),
        }

    @property
    def inspector(self) -> Inspector:
        return self._inspector

    async def status(self) -> RouterStatus:
        """What this router sees."""
        pages = [page_status(replica, self._mirror.seen(HolderId(replica))) for replica in self._roster.live]
        return RouterStatus(
            router=self._router,
            pid=os.getpid(),
            routing=self._settings.policy_name,
            live=self._roster.live,
            pages=tuple(pages),
            repeats=self._half.repeats,
            declines=self._half.declines,
            failures=dict(self._decider.failures),
            mirror_errors=self._mirror.errors,
            misfit=self._meeting.misfit,
            probing=self._probing.kept_out,
        )

    async def name_epochs(self) -> NameEpochs:
        """The epochs that this router looks up in."""
        return self._holdings.epochs

    async def mirror_report(self) -> MirrorReport:
        """How this router's mirror does."""
        return self._inspector.mirror_report()

    async def mirrored(self, holders: Collection[HolderId]) -> Mirrored:
        """What this router's mirror has of some replicas."""
        return await self._inspector.mirrored(holders)

    async def reload(self, wanted: Mapping[str, Collection[HolderId]]) -> None:
        """Read anew the pages that are wanted of this router."""
        self._inspector.reload(wanted)

    async def check_health(self) -> None:
        """Serve replaces a router whose mirror or store has ended."""
        self._lifetime.check()

    async def __del__(self) -> None:
        if self._lifetime.is_open:
            await self._hear_out()
        await self._lifetime.close()

    async def _open(self, grant: RouterGrant, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        settings = self._settings
        folder = await asyncio.to_thread(prepare_model, settings.engine)
        self._tokens = load_tokens(folder)
        if settings.open:
            check_loopback()
        self._tracer = stack.enter_context(open_tracing(settings.tracing, settings.decisions_file, self._router))
        self._meeting = Meeting(settings, self._replicas)
        pages = await stack.enter_async_context(open_pages(grant.directory_url, settings.directory))
        accounts = await stack.enter_async_context(open_accounts(grant.accounts_url, settings.accounts))
        self._book = BookReader(accounts)
        await self._book.look()
        self._probing = Probing(time.monotonic)
        self._public = PublicPrefixes(self._tokens, settings.engine.block_tokens, self._probing)
        routers, block_tokens = settings.router.count, settings.engine.block_tokens
        self._gate = Gate(accounts, self._router, lambda: routers, block_tokens)
        keyring = Keyring(grant.master, settings.isolation)
        self._operator_key = operator_key(grant.master)
        self._holdings = EpochHoldings()
        self._holdings.epochs = grant.epochs
        epochs = EpochReader(accounts, self._holdings)
        await epochs.look()
        self._mirror = Mirror(pages, self._holdings, keyring.mac_key, self._learn, time.monotonic)
        overlay = Overlay(self._router, time.monotonic)
        sight = Sight(self._holdings, self._mirror, overlay, self._roster)
        wire: Wire = HandleWire(self._replicas)
        self._queue: FairQueue | None = None
        if settings.queues_here:
            room = Room(
                self._router,
                settings.router.count,
                self._mirror,
                overlay,
                self._roster,
                self._slots,
                least=settings.least_in_flight,
            )
            self._queue = FairQueue(room, max_waiting=settings.router.max_queued_requests)
            wire = LinedWire(wire, Lines(room, settings.router.max_queued_requests))
        routing = settings.routing
        policy = build_policy(routing, random.Random()) if isinstance(routing, PolicySettings) else None
        self._decider = Decider(self._router, settings.name, block_tokens, keyring, sight, policy, settings.policy_name)
        self._usage = await stack.enter_async_context(
            open_usage(grant.usage_url, settings.engine.cache, keyring.ticket_key(), self._router)
        )
        self._half = RouterHalf(
            self._decider,
            wire,
            self._roster,
            self._record,
            self._bill,
            self._tracer.declined,
        )
        self._metrics = Metrics(self._state)
        fleet = ServeFleet(self._replicas, _routers())
        self._inspector = Inspector(
            self._router,
            settings,
            sight,
            pages,
            keyring,
            lambda: self._book.book.domains,
            self._tokens,
            self._meeting.known,
            fleet,
        )
        tasks.create_task(self._mirror.run(lambda: [HolderId(replica) for replica in self._roster.live]))
        tasks.create_task(self._book.run())
        tasks.create_task(epochs.run())
        tasks.create_task(self._gate.run())
        tasks.create_task(self._usage.run())
        tasks.create_task(self._meeting.run())

    async def _hear_out(self) -> None:
        """Outcomes ride in the replicas' next batches; wait a moment for those of the last requests."""
        patience = time.monotonic() + _HEAR_OUT_S
        while self._decider.awaiting and time.monotonic() < patience:
            await asyncio.sleep(0.05)

    async def _asked(
        self, caller: Caller, asking: Chat | Completion, words: bytes, draw: Sampling, traceparent: str | None
    ) -> Asked:
        domain = caller.within(part_of(caller, asking)).domain
        affinity = affinity_of(domain, asking.prompt_cache_key)
        budget = await self._gate.budget(caller, len(words) // 4, draw.max_tokens)
        deadline_s = time.time() + self._settings.router.request_timeout_s
        public = await self._lead(caller, words, draw.max_tokens)
        asked = Asked(domain, words, draw.max_tokens, traceparent, deadline_s, affinity, budget, public)
        if budget is not None:
            await budget.appeal(self._decider.held_tokens(asked))
        return asked

    async def _lead(self, caller: Caller, words: bytes, max_tokens: int) -> Lead | None:
        if not self._settings.isolation:  # all is one domain, that of public prefixes too
            return None
        return await self._public.lead(self._book.book, caller.tenant.name, words, max_tokens)

    async def _turn(self, stack: AsyncExitStack, caller: Caller, asked: Asked) -> Callable[[Decision], None]:
        """Wait for room where requests queue here; gives what hears of the decision."""
        if self._queue is None:
            return lambda decision: None
        tenant = caller.tenant
        turn = await stack.enter_async_context(self._queue.turn(tenant.name, tenant.rules.weight, asked.deadline_s))
        return lambda decision: turn.charge(decision.request.prompt_tokens - decision.predicted_cached_tokens)

    async def _ended(self, admission: Admission, stack: AsyncExitStack, last: Piece | None) -> None:
        if last is not None:  # what it might have generated and did not is given back
            admission.settle(last.usage.prompt + last.usage.completion)
        await stack.aclose()
        if last is not None:
            self._metrics.prompt_tokens.inc(last.usage.prompt)
            self._metrics.cached_tokens.inc(last.usage.cached)
            self._metrics.output_tokens.inc(last.usage.completion)

    async def _bill(self, attempt: Attempt, ending: Ending) -> None:
        await self._usage.record(attempt.used(self.model, self._settings.engine.block_tokens, ending))

    def _slots(self) -> int:
        """Requests that one replica takes: its batch, and those that start while others' ends are not heard of yet."""
        capacity, most = self._meeting.capacity, self._settings.replicas.max_ongoing_requests
        return 0 if capacity is None else min(capacity.max_sequences + SPARE, most)

    def _record(self, decision: Decision) -> str:
        self._metrics.decision.observe(decision.took_us / 1e6)
        return self._tracer.route(decision)

    def _learn(self, holder: HolderId, served: Served) -> None:
        self._gate.settle(served)
        if self._decider.learn(holder, served):
            self._tracer.outcome(holder, served)

    def _state(self) -> RouterState:
        seen = [page for page in map(self._mirror.seen, map(HolderId, self._roster.live)) if page]
        return RouterState(
            replicas=len(self._roster.live),
            directory_blocks=sum(page.blocks for page in seen),
            directory_age_s=max((page.age_s for page in seen), default=0.0),
            repeats=self._half.repeats,
            declines=self._half.declines,
            probings=self._probing.flagged,
            failures=self._decider.failures,
            dropped_spans=self._tracer.dropped,
        )


def _routers() -> DeploymentHandle:
    """This router's own deployment."""
    here = serve.get_replica_context()
    return serve.get_deployment_handle(here.deployment, here.app_name)
