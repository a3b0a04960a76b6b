"""Decisions and their outcomes as OpenTelemetry spans: always into the embedded store, and to a collector if named."""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pydantic
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from pydantic import BaseModel, ConfigDict

from ..directory.wire import Served
from ..policies.field import Field
from ..workers import Ticket
from . import span_keys as keys
from .decision import Decision
from .decisions import open_store
from .recorded_candidates import encoded
from .span_processors import RatioProcessor, StoreProcessor

_SERVICE = "kvplane"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_AWAITED = 65_536  # decisions kept until their outcome comes; older ones are given up


class TracingSettings(BaseModel):
    """How long decisions are kept here, and which share of them goes to the collector."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_days: float = pydantic.Field(default=7.0, gt=0, le=3650)
    retention_rows: int = pydantic.Field(default=100_000, gt=0)  # spans; an answered decision has two
    export_ratio: float = pydantic.Field(default=1.0, ge=0, le=1)  # of traces, whole ones; the store keeps all


@contextmanager
def open_tracing(settings: TracingSettings, store: Path, instance: str) -> Iterator["DecisionTracer"]:
    """Open the store and the exporter; on leaving, what is written is flushed within seconds, whoever answers."""
    kept = StoreProcessor(open_store(store), settings.retention_days, settings.retention_rows)
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource.create({"service.name": _SERVICE, "service.instance.id": instance}),
        shutdown_on_exit=False,
        span_limits=SpanLimits(max_span_attributes=64, max_span_attribute_length=SpanLimits.UNSET),
    )
    provider.add_span_processor(kept)
    if any(os.environ.get(name) for name in _ENDPOINTS):
        provider.add_span_processor(RatioProcessor(BatchSpanProcessor(OTLPSpanExporter()), settings.export_ratio))
    kept.start()
    try:
        yield DecisionTracer(provider, kept)
    finally:
        provider.shutdown()


@dataclass(frozen=True, slots=True)
class _Awaited:
    """What an outcome is held against."""

    context: SpanContext
    ended_ns: int
    model: str
    cached_tokens: int | None  # as predicted


class DecisionTracer:
    """Two spans for each decision. The provider is its own, since Serve has set the global one by then."""

    def __init__(
        self, provider: TracerProvider, store: StoreProcessor, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._tracer = provider.get_tracer("kvplane.decisions")
        self._store = store
        self._clock_ns = clock_ns
        self._awaited: OrderedDict[str, _Awaited] = OrderedDict()

    @property
    def dropped(self) -> int:
        """Spans that did not reach the store."""
        return self._store.dropped

    def flush(self, timeout_s: float) -> bool:
        """Wait until the store has what was traced so far; false if that took too long."""
        return self._store.force_flush(int(timeout_s * 1e3))

    def route(self, decision: Decision) -> str:
        """Trace a decision under the client's span. Gives the new span's traceparent, for the replica to be under."""
        span = self._tracer.start_span(
            f"{keys.ROUTE} {decision.model}",
            context=_parent(decision.traceparent),  # never the ambient one, which concurrent requests mix up
            kind=SpanKind.INTERNAL,
            attributes=_routed(decision),
            start_time=decision.at_ns,
        )
        ended_ns = decision.at_ns + round(decision.took_us * 1e3)
        span.end(ended_ns)
        context = span.get_span_context()
        predicted = None if decision.choice is None else decision.predicted_cached_tokens
        self._awaited[decision.id] = _Awaited(context, ended_ns, decision.model, predicted)
        if len(self._awaited) > _AWAITED:
            self._awaited.popitem(last=False)
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def declined(self, ticket: Ticket) -> None:
        """Trace that the replica of a decision declined it: it has no other outcome."""
        awaited = self._awaited.pop(ticket.id, None)
        context = Context() if awaited is None else _under(awaited.context)
        attributes: dict[str, AttributeValue] = {
            keys.OPERATION: "outcome",
            keys.DECISION_ID: ticket.id,
            keys.ROUTER: ticket.router,
            keys.SERVED_BY: ticket.ranks[0],
            keys.FINISH: keys.DECLINED,
        }
        self._tracer.start_span(keys.OUTCOME, context=context, kind=SpanKind.INTERNAL, attributes=attributes).end()

    def outcome(self, replica: str, served: Served) -> None:
        """Trace how a decision went, under its route span; one made elsewhere is joined by its id alone."""
        awaited = self._awaited.pop(served.decision, None)
        took_ns = round(served.total_ms * 1e6)
        began_ns = self._clock_ns() - took_ns if awaited is None else awaited.ended_ns
        span = self._tracer.start_span(
            keys.OUTCOME,
            context=Context() if awaited is None else _under(awaited.context),
            kind=SpanKind.INTERNAL,
            attributes=_ended(replica, served, awaited),
            start_time=began_ns,
        )
        if served.finish == "failed":
            span.set_status(StatusCode.ERROR)
        span.end(began_ns + took_ns)


def _parent(traceparent: str | None) -> Context:
    carrier = {"traceparent": traceparent} if traceparent else {}
    return TraceContextTextMapPropagator().extract(carrier, Context())  # an invalid one gives a root


def _under(context: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(context), Context())


def _routed(decision: Decision) -> Mapping[str, AttributeValue]:
    request, choice, field = decision.request, decision.choice, Field.of(decision.candidates)
    scores = dict(choice.scores.items()) if choice else {}
    attributes: dict[str, AttributeValue] = {
        keys.OPERATION: "route",
        keys.MODEL: decision.model,
        keys.MAX_TOKENS: request.max_tokens,
        keys.INPUT_TOKENS: request.prompt_tokens,
        keys.BLOCK_TOKENS: request.block_tokens,
        keys.AFFINITY: str(request.affinity),
        keys.DECISION_ID: decision.id,
        keys.TENANT: decision.tenant,
        keys.ROUTER: decision.router,
        keys.POLICY: decision.policy,
        keys.REASON: decision.reason,
        keys.CANDIDATES: len(field),
        keys.MATCHED_TOKENS: int(field.disk_tokens.max(initial=0)),
        keys.PREDICTED_CACHED_TOKENS: decision.predicted_cached_tokens,
        keys.DIRECTORY_AGE_MS: decision.directory_age_ms,
        keys.FEATURES: encoded(field),
        keys.SCORES: _json(scores),
        keys.BASIS: _json(choice.basis if choice else {}),
    }
    if choice is not None:
        attributes[keys.CHOSEN_REPLICA] = choice.replica
        attributes[keys.PROPENSITY] = choice.propensity
        attributes[keys.COST_BEST] = min(scores.values(), default=0.0)
        attributes[keys.COST_CHOSEN] = scores.get(choice.replica, 0.0)
        if choice.predicted_ttft_ms is not None:
            attributes[keys.PREDICTED_TTFT_MS] = choice.predicted_ttft_ms
    return attributes


def _ended(replica: str, served: Served, awaited: _Awaited | None) -> Mapping[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        keys.OPERATION: "outcome",
        keys.DECISION_ID: served.decision,
        keys.ROUTER: served.router,
        keys.SERVED_BY: replica,
        keys.FINISH: served.finish,
        keys.INPUT_TOKENS: served.prompt_tokens,
        keys.OUTPUT_TOKENS: served.output_tokens,
        keys.ACTUAL_CACHED_TOKENS: served.cached_tokens,
        keys.ACTUAL_TTFT_MS: served.ttft_ms,
        keys.QUEUE_MS: served.queue_ms,
        keys.PREFILL_MS: served.prefill_ms,
        keys.TOTAL_MS: served.total_ms,
    }
    if awaited is not None:
        attributes[keys.MODEL] = awaited.model
        if awaited.cached_tokens is not None:
            attributes[keys.PREDICTION_ERROR] = awaited.cached_tokens - served.cached_tokens
    return attributes


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
