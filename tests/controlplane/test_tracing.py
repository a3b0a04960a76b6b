"""Spans of decisions: parents, attributes, the embedded store, and a real OTLP receiver on loopback."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanContext, TraceFlags
from pydantic import ValidationError

from kvplane.controlplane import span_keys as keys
from kvplane.controlplane.decision import Decision
from kvplane.controlplane.decisions import Decisions, open_store
from kvplane.controlplane.span_processors import RatioProcessor, StoreProcessor
from kvplane.controlplane.tracing import DecisionTracer, TracingSettings, open_tracing
from kvplane.directory.wire import Served
from kvplane.policies import Candidate, Choice, ReplicaId, RoutedRequest
from kvplane.policies.field import Costs, Field
from kvplane.workers import Ticket

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLIENT = f"00-{TRACE}-{SPAN}-00"  # not sampled by the client; recorded all the same
R1, R2 = ReplicaId("r1"), ReplicaId("r2")
SETTINGS = TracingSettings(retention_days=3650)  # the decisions below are of a fixed day
CHOICE = Choice(R1, "longest prefix", 1.0, Costs((R1, R2), np.array([9.0, 30.0])), 8.5, {"draw": 0.5})
DECISION = Decision(
    id="d1",
    at_ns=1_790_000_000_000_000_000,
    took_us=250.0,
    tenant="acme/docs",
    model="m",
    router="router-1",
    policy="estimated_ttft",
    request=RoutedRequest(100, 10, 16, at_s=1_790_000_000.0, affinity=(1 << 63) - 1),
    candidates=Field.of([Candidate(R1, 64, 64, 80), Candidate(R2)]),
    choice=CHOICE,
    reason="longest prefix",
    directory_age_ms=4.0,
    traceparent=CLIENT,
)
SERVED = Served("d1", "router-1", "stop", 100, 64, 7, queue_ms=2.0, prefill_ms=6.0, total_ms=50.0)


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)


@contextmanager
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ExportTraceServiceRequest]]:
    received: list[ExportTraceServiceRequest] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


def test_a_decision_and_its_outcome_are_stored_whole(tmp_path: Path) -> None:
    with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-1") as tracer:
        traceparent = tracer.route(DECISION)
        tracer.outcome("r2", SERVED)
        assert tracer.flush(10)
        [row] = Decisions(tmp_path / "d.sqlite").find()

    assert traceparent.split("-")[1:3] == [TRACE, row.span_id]
    assert (row.id, row.at_ns, row.took_us) == ("d1", DECISION.at_ns, 250.0)
    assert (row.trace_id, row.parent_span_id) == (TRACE, SPAN)
    assert (row.tenant, row.model, row.router, row.policy) == ("acme/docs", "m", "router-1", "estimated_ttft")
    assert (row.request, row.candidates) == (DECISION.request, tuple(DECISION.candidates))
    assert (row.chosen, row.scores, row.basis) == ("r1", CHOICE.scores, CHOICE.basis)
    assert (row.predicted_cached_tokens, row.predicted_ttft_ms) == (80, 8.5)
    assert (row.actual_cached_tokens, row.actual_ttft_ms, row.output_tokens) == (64, 8.0, 7)
    assert (row.prediction_error, row.finish, row.served_by) == (16, "stop", "r2")


def test_a_decision_that_is_declined_is_stored_as_that_and_reports_nothing(tmp_path: Path) -> None:
    with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-1") as tracer:
        tracer.route(DECISION)
        tracer.declined(Ticket("d1", "router-1", 1, ("r1", "r2"), "", "", 0.0, 7))
        assert tracer.flush(10)
        [row] = Decisions(tmp_path / "d.sqlite").find()

    assert (row.finish, row.served_by, row.actual_cached_tokens, row.prediction_error) == ("declined", "r1", None, None)


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01"])
def test_without_a_valid_traceparent_the_route_span_is_a_root(tmp_path: Path, traceparent: str | None) -> None:
    with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-1") as tracer:
        tracer.route(replace(DECISION, traceparent=traceparent))

    [row] = Decisions(tmp_path / "d.sqlite").find()

    assert row.parent_span_id is None
    assert row.trace_id != TRACE


def test_a_span_that_happens_to_be_current_is_never_the_parent(tmp_path: Path) -> None:
    ambient = trace.NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(1)))
    with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-1") as tracer, trace.use_span(ambient):
        tracer.route(DECISION)
        tracer.route(replace(DECISION, id="d2", traceparent=None))

    assert {row.id: row.parent_span_id for row in Decisions(tmp_path / "d.sqlite").find()} == {"d1": SPAN, "d2": None}


def test_the_global_provider_is_left_alone(tmp_path: Path) -> None:
    before = trace.get_tracer_provider()
    with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-1"):
        assert trace.get_tracer_provider() is before


def test_a_decision_without_a_choice_is_stored_without_one(tmp_path: Path) -> None:
    with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-1") as tracer:
        tracer.route(replace(DECISION, choice=None, candidates=(), reason="no replica is known"))
        tracer.outcome("r2", SERVED)

    [row] = Decisions(tmp_path / "d.sqlite").find()

    assert (row.chosen, row.candidates, row.scores, row.propensity) == (None, (), {}, None)
    assert (row.reason, row.prediction_error, row.finish) == ("no replica is known", None, "stop")


def test_leaving_writes_everything_that_was_traced(tmp_path: Path) -> None:
    with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-1") as tracer:
        for number in range(1200):
            tracer.route(replace(DECISION, id=f"{number:04}"))

    assert len(Decisions(tmp_path / "d.sqlite").find(last=2000)) == 1200
    assert tracer.dropped == 0


def test_a_collector_gets_both_spans_in_one_trace_and_nothing_is_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "8")
    with collector(monkeypatch) as received:
        with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-1") as tracer:
            tracer.route(DECISION)
            tracer.outcome("r2", SERVED)
        resources = [resource for request in received for resource in request.resource_spans]

    about = {each.key: each.value.string_value for each in resources[0].resource.attributes}
    spans = {span.name: span for resource in resources for scope in resource.scope_spans for span in scope.spans}
    routed = {each.key: each.value for each in spans["route m"].attributes}
    ended = {each.key: each.value for each in spans["outcome"].attributes}

    assert (about["service.name"], about["service.instance.id"]) == ("kvplane", "router-1")
    assert spans["route m"].trace_id.hex() == spans["outcome"].trace_id.hex() == TRACE
    assert spans["route m"].parent_span_id.hex() == SPAN
    assert spans["outcome"].parent_span_id == spans["route m"].span_id
    assert spans["route m"].end_time_unix_nano - spans["route m"].start_time_unix_nano == 250_000
    assert spans["outcome"].start_time_unix_nano == spans["route m"].end_time_unix_nano
    assert routed[keys.REASON].string_value == "longest prefix"
    assert (routed[keys.CANDIDATES].int_value, routed[keys.MATCHED_TOKENS].int_value) == (2, 80)
    assert (routed[keys.COST_BEST].double_value, routed[keys.COST_CHOSEN].double_value) == (9.0, 9.0)
    assert ended[keys.PREDICTION_ERROR].int_value == 16


def test_an_outcome_of_a_decision_made_elsewhere_is_a_root_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector(monkeypatch) as received:
        with open_tracing(SETTINGS, tmp_path / "d.sqlite", "router-2") as tracer:
            tracer.outcome("r2", SERVED)
        [span] = received[0].resource_spans[0].scope_spans[0].spans

    assert span.parent_span_id == b""
    assert next(each.value.string_value for each in span.attributes if each.key == keys.DECISION_ID) == "d1"
    assert keys.PREDICTION_ERROR not in {each.key for each in span.attributes}


def test_nothing_is_exported_at_a_ratio_of_zero_and_all_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector(monkeypatch) as received:
        with open_tracing(
            TracingSettings(retention_days=3650, export_ratio=0), tmp_path / "d.sqlite", "router-1"
        ) as tracer:
            tracer.route(DECISION)
        exported = list(received)

    assert exported == []
    assert len(Decisions(tmp_path / "d.sqlite").find()) == 1


def test_a_ratio_passes_that_share_of_the_traces_and_whole_ones() -> None:
    passed: Counter[int] = Counter()

    class Following(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            assert span.context is not None
            passed[span.context.trace_id] += 1

    ratio = RatioProcessor(Following(), 0.25)
    random_ids = TracerProvider(shutdown_on_exit=False).id_generator
    for trace_id in [random_ids.generate_trace_id() for _ in range(2000)]:
        for span_id in (1, 2):
            ratio.on_end(ReadableSpan("span", SpanContext(trace_id, span_id, False)))

    assert 0.2 < len(passed) / 2000 < 0.3
    assert set(passed.values()) == {2}


def test_a_collector_that_never_answers_does_not_hold_up_the_end() -> None:
    called, answered = threading.Event(), threading.Event()

    class Stuck(SpanProcessor):
        def shutdown(self) -> None:
            called.set()
            answered.wait(60)

    RatioProcessor(Stuck(), 1.0, close_s=0.01).shutdown()

    assert called.is_set()
    assert not answered.is_set()
    answered.set()


def test_the_store_keeps_to_its_retention(tmp_path: Path) -> None:
    now_ns = [DECISION.at_ns]
    kept = StoreProcessor(open_store(tmp_path / "d.sqlite"), 1.0, 1000, clock_ns=lambda: now_ns[0])
    kept.start()
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(kept)
    tracer = DecisionTracer(provider, kept)
    tracer.route(DECISION)
    assert tracer.flush(10)
    now_ns[0] += 2 * 86_400 * 1_000_000_000
    tracer.route(replace(DECISION, id="d2", at_ns=now_ns[0]))
    provider.shutdown()

    assert [row.id for row in Decisions(tmp_path / "d.sqlite").find()] == ["d2"]


def test_unknown_settings_are_errors() -> None:
    with pytest.raises(ValidationError):
        TracingSettings.model_validate({"export_ration": 0.5})
