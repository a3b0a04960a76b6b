"""The parts the demo runs on outside tests: Ray on this machine, the embedded engine, HTTP, the decision store."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...workers import BadModel, prepare_model
from ..config import Settings
from ..decisions import DecisionRow, Decisions
from ..local import Machine, free_port, machine
from .drive import drive
from .errors import DemoError
from .story import Stage
from .workload import fixed_workload


def real_stage() -> Stage:
    """Everything as a user of kvplane would have it on one machine."""
    return Stage(fixed_workload(), _prepare, _host, drive, _decisions)


def _prepare(settings: Settings) -> None:
    try:
        prepare_model(settings.engine)
    except BadModel as exc:
        raise DemoError(str(exc)) from exc


@contextmanager
def _host(settings: Settings) -> Iterator[Machine]:
    with machine(free_port(0), settings.replicas.count * settings.replicas.num_cpus) as host:
        yield host


def _decisions(store: Path, last: int) -> Sequence[DecisionRow]:
    return Decisions(store).find(last=last)
