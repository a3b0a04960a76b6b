"""The whole story on a host of fakes: what it deploys, what it leaves, and how it stops."""

import io
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from kvplane.controlplane.config import Settings
from kvplane.controlplane.decision_row import DecisionRow
from kvplane.controlplane.demo import DemoError, run_demo
from kvplane.controlplane.demo import run as run_file
from kvplane.controlplane.demo.drive import drive
from kvplane.controlplane.demo.story import Stage
from kvplane.controlplane.demo.workload import Conversation, Turn, User, Workload
from kvplane.controlplane.local import Serving
from kvplane.tests.controlplane.demo.fake_chat import FakeChat
from kvplane.tests.controlplane.demo.made import replica, row

KEYS = {"acme": "sk-acme", "globex": "sk-globex"}
WORK = Workload([User(tenant, [Conversation("csv", [Turn("Why?", 0), Turn("How?", 0)])]) for tenant in KEYS], 8)


class FakeHost:
    """Serves the fake chat under any settings, and writes down what was opened and closed."""

    def __init__(self, chat: FakeChat) -> None:
        self.chat = chat
        self.deployed: list[Settings] = []
        self.log: list[str] = []
        self.unsettled = 0  # how often the store is still without outcomes

    @contextmanager
    def opened(self, settings: Settings) -> Iterator["FakeHost"]:
        self.log.append("host up")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Ray too puts a handler of its own in place
        try:
            yield self
        finally:
            self.log.append("host down")

    @contextmanager
    def serving(self, settings: Settings) -> Iterator[Serving]:
        self.deployed.append(settings)
        self.log.append(f"{settings.policy_name} up")
        try:
            yield Serving(self.chat.url, KEYS)
        finally:
            self.log.append(f"{settings.policy_name} down")

    def decisions(self, store: Path, last: int) -> Sequence[DecisionRow]:
        assert store.parent.is_dir()
        self.unsettled -= 1
        if self.unsettled >= 0:
            return []
        answered = range(len(self.chat.asked) - last, len(self.chat.asked))
        return [row(f"{number:016x}", replica("a", 500), replica("b")) for number in answered]

    def stage(self) -> Stage:
        return Stage(WORK, lambda settings: self.log.append("prepared"), self.opened, drive, self.decisions)


def told(host: FakeHost, out: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    assert isinstance(console.file, io.StringIO)
    try:
        run_demo(out, console, host.stage())
    except KeyboardInterrupt:
        console.print("interrupted")
    return console.file.getvalue()


def test_the_three_routings_run_one_after_another_each_in_its_own_state(fake_chat: FakeChat, tmp_path: Path) -> None:
    host = FakeHost(fake_chat)

    told(host, tmp_path)

    ups = [f"{name} {end}" for name in ("round_robin", "ray", "adaptive") for end in ("up", "down")]
    assert host.log == ["prepared", "host up", *ups, "host down"]
    assert [settings.state.name for settings in host.deployed] == ["round_robin", "ray", "kvplane"]
    assert all(settings.state.is_relative_to(tmp_path) for settings in host.deployed)
    assert all(settings.replicas.count == 3 for settings in host.deployed)
    bodies = [[body for _, body in fake_chat.asked[at : at + 4]] for at in (0, 4, 8)]
    assert len(fake_chat.asked) == 12
    assert all(sum(len(body["messages"]) == 2 for body in run) == 2 for run in bodies)


def test_report_plot_and_decisions_are_left_behind(fake_chat: FakeChat, tmp_path: Path) -> None:
    text = told(FakeHost(fake_chat), tmp_path)

    report = json.loads((tmp_path / "report.json").read_text())
    assert {name: each["requests"] for name, each in report.items()} == {"round_robin": 4, "ray": 4, "kvplane": 4}
    assert (tmp_path / "ttft.png").stat().st_size > 1000
    lessons = (tmp_path / "decisions.txt").read_text()
    assert "One text, two tenants" in lessons
    assert lessons.strip() in text
    assert "The same work under three routings" in text
    assert "kvplane decisions --last 4 --state" in text


def test_what_an_earlier_run_left_is_not_mixed_in(fake_chat: FakeChat, tmp_path: Path) -> None:
    stale = tmp_path / "state" / "kvplane" / "decisions.sqlite"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    mine = tmp_path / "mine.txt"
    mine.write_text("not the demo's")

    told(FakeHost(fake_chat), tmp_path)

    assert not stale.exists()
    assert mine.read_text() == "not the demo's"


def test_decisions_are_read_once_their_outcomes_have_come(fake_chat: FakeChat, tmp_path: Path) -> None:
    host = FakeHost(fake_chat)
    host.unsettled = 3

    told(host, tmp_path)

    assert "1. " in (tmp_path / "decisions.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_everything_and_says_what_is_kept(
    fake_chat: FakeChat, tmp_path: Path, number: signal.Signals
) -> None:
    host = FakeHost(fake_chat)
    (tmp_path / "report.json").write_text("of an earlier run")
    fake_chat.on_request = lambda asked: signal.raise_signal(number) if asked == 5 else None

    text = told(host, tmp_path)

    assert host.log[-2:] == ["ray down", "host down"]
    assert "Stopping replicas" in text
    assert "Stopped; nothing of the demo is running. Kept:" in text
    assert text.strip().endswith("interrupted")
    assert not (tmp_path / "report.json").exists()


def test_the_extra_packages_are_named_before_anything_starts(
    fake_chat: FakeChat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost(fake_chat)
    monkeypatch.setattr(run_file, "_EXTRAS", ("httpx", "no_such_plotter"))

    with pytest.raises(DemoError, match=r"no_such_plotter: pip install 'kvplane\[demo\]'"):
        run_demo(tmp_path, stage=host.stage())

    assert host.log == []
