"""What a fleet at rest costs a router, and how soon what an engine stores can be found by one."""

import time
from array import array

from .child import ANSWER_S, child
from .errors import BenchError
from .fleet import Emit, TellAccounts, fleet
from .ingest_rows import OURS, IngestRow
from .kvplane_index import holder_of
from .reader import Mirrored, mirroring
from .reading import Reach, Reached, TellArrivals, TellUsage
from .rows import percentile

HEARTBEAT, ROUTABLE = "heartbeat", "routable"

_FLEET = 16  # replicas that share the load
_CHAIN_BLOCKS = 32  # prefill of 512 tokens
_BLOCKS_PER_S = 20_000


def heartbeat_row(url: str, replicas: int, seconds: float) -> IngestRow:
    """How much of a core a router's mirror takes while replicas say that nothing happened, each at its pace."""
    reading = Mirrored(url, [holder_of(number) for number in range(replicas)])
    with child(fleet, url, replicas) as publishers, mirroring(reading) as (mirror, _):
        accounts = publishers.ask(TellAccounts())
        mirror.ask(Reach({holder: account.place for holder, account in accounts.items()}))
        began: Reached = mirror.ask(TellUsage())
        time.sleep(seconds)
        ended: Reached = mirror.ask(TellUsage())
    percent = 100 * (ended.cpu_s - began.cpu_s) / (ended.at_s - began.at_s)
    return IngestRow(OURS, HEARTBEAT, replicas, 0, None, None, core_percent=round(percent, 2))


def routable_row(url: str, seconds: float) -> IngestRow:
    """From the engine's event to the mirror's table, through publisher and Redis, under 20,000 blocks a second."""
    reading = Mirrored(url, [holder_of(number) for number in range(_FLEET)], stamped=True)
    chains = round(seconds * _BLOCKS_PER_S / _CHAIN_BLOCKS)
    with child(fleet, url, _FLEET) as publishers, mirroring(reading) as (mirror, _):
        accounts = publishers.ask(TellAccounts())
        mirror.ask(Reach({holder: account.place for holder, account in accounts.items()}))
        emitted = publishers.ask(Emit(chains, _CHAIN_BLOCKS, _BLOCKS_PER_S), ANSWER_S + seconds)
        accounts = publishers.ask(TellAccounts())
        mirror.ask(Reach({holder: account.place for holder, account in accounts.items()}))
        arrived = {name: at_s for at_s, names in mirror.ask(TellArrivals()) for name in array("Q", names)}
    missing = sum(name not in arrived for name, _ in emitted)
    if missing:
        raise BenchError(f"{missing} of {len(emitted)} chains never came")
    delays_ms = [1e3 * (arrived[name] - at_s) for name, at_s in emitted]
    p50_ms, p99_ms = (round(percentile(delays_ms, share), 2) for share in (0.5, 0.99))
    blocks = chains * _CHAIN_BLOCKS
    return IngestRow(OURS, ROUTABLE, _FLEET, blocks, None, None, p50_ms=p50_ms, p99_ms=p99_ms)
