"""Where finished spans go: into the embedded store, and a share of the traces on to an exporter."""

import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from . import span_keys as keys
from .decisions import SpanRow, SpanStore
from .spool import Spool

_CLOSE_S = 5.0
_PRUNE_EVERY_S = 30.0
_TRACE_ID_LOW = (1 << 64) - 1


class StoreProcessor(SpanProcessor):
    """Hands finished spans to a thread that writes them to the store and keeps to its retention."""

    def __init__(
        self,
        store: SpanStore,
        retention_days: float,
        retention_rows: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._retention_ns = int(retention_days * 86_400e9)
        self._retention_rows = retention_rows
        self._clock_ns = clock_ns
        self._prune_at_ns = 0
        self._spool: Spool[ReadableSpan] = Spool(self._write, store.close)

    @property
    def dropped(self) -> int:
        return self._spool.dropped

    def start(self) -> None:
        self._spool.start()

    def on_end(self, span: ReadableSpan) -> None:
        self._spool.put(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._spool.flush(timeout_millis / 1e3)

    def shutdown(self) -> None:
        self._spool.stop(_CLOSE_S)

    def _write(self, spans: Sequence[ReadableSpan]) -> None:
        self._store.write([_stored(span) for span in spans])
        now_ns = self._clock_ns()
        if now_ns >= self._prune_at_ns:
            self._prune_at_ns = now_ns + int(_PRUNE_EVERY_S * 1e9)
            self._store.prune(now_ns - self._retention_ns, self._retention_rows)


class RatioProcessor(SpanProcessor):
    """Passes a share of the traces on, chosen by their ids, so that a decision and its outcome stay together."""

    def __init__(self, following: SpanProcessor, ratio: float, close_s: float = _CLOSE_S) -> None:
        self._following = following
        self._close_s = close_s
        self._below = round(ratio * (_TRACE_ID_LOW + 1))

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_id & _TRACE_ID_LOW < self._below:
            self._following.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._following.force_flush(timeout_millis)

    def shutdown(self) -> None:
        # A collector that does not answer would hold the caller for half a minute; the thread dies with the process.
        closing = threading.Thread(target=self._following.shutdown, name="close exporter", daemon=True)
        closing.start()
        closing.join(self._close_s)


def _stored(span: ReadableSpan) -> SpanRow:
    context, parent = span.context, span.parent
    assert context is not None
    assert span.start_time is not None
    assert span.end_time is not None
    return SpanRow(
        kind=keys.OUTCOME if span.name == keys.OUTCOME else keys.ROUTE,
        name=span.name,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_span_id=f"{parent.span_id:016x}" if parent is not None else None,
        start_ns=span.start_time,
        end_ns=span.end_time,
        attributes=span.attributes or {},
    )
