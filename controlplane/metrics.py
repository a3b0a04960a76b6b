"""What Prometheus scrapes from a router: bounded labels, no tenant among them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_DECISION_SECONDS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2)


@dataclass(frozen=True, slots=True)
class RouterState:
    """What a router counts anyway, read when it is scraped."""

    replicas: int
    directory_blocks: int
    directory_age_s: float  # of the oldest live replica's page
    repeats: int
    declines: int
    probings: int
    failures: Mapping[str, int]
    dropped_spans: int


class Metrics:
    """One registry per router process; scrape every router, they add up."""

    def __init__(self, state: Callable[[], RouterState]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Reading(state))
        self.requests = self._counter("requests", "Requests answered", ["endpoint", "status"])
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of answered requests")
        self.cached_tokens = self._counter("cached_tokens", "Prompt tokens whose prefill was skipped")
        self.output_tokens = self._counter("output_tokens", "Tokens generated")
        self.ttft = self._histogram("ttft_seconds", "Arrival at the router to the first token", _SECONDS)
        self.decision = self._histogram("decision_seconds", "Time to decide", _DECISION_SECONDS)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)

    def _counter(self, name: str, documentation: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"kvplane_{name}", documentation, labels or [], registry=self._registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"kvplane_{name}", documentation, buckets=buckets, registry=self._registry)


class _Reading(Collector):
    """Turns a router's state into metrics at the time of the scrape."""

    def __init__(self, state: Callable[[], RouterState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield GaugeMetricFamily("kvplane_replicas", "Live replicas this router may choose", state.replicas)
        yield GaugeMetricFamily("kvplane_directory_blocks", "Blocks in the mirror, per holder", state.directory_blocks)
        yield GaugeMetricFamily("kvplane_directory_age_seconds", "Age of the oldest page", state.directory_age_s)
        yield CounterMetricFamily("kvplane_repeats", "Attempts repeated on another replica", state.repeats)
        yield CounterMetricFamily("kvplane_declines", "Tickets that replicas sent back, being too busy", state.declines)
        yield CounterMetricFamily("kvplane_probings", "Tenants kept from public prefixes", state.probings)
        yield CounterMetricFamily("kvplane_dropped_spans", "Spans the store had no room for", state.dropped_spans)
        failures = CounterMetricFamily("kvplane_survived_failures", "Raised while deciding, survived", labels=["what"])
        for what in ("directory", "policy", "learning"):
            failures.add_metric([what], state.failures.get(what, 0))
        yield failures
