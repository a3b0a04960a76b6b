"""The three commands ask the running application, show tables or its JSON, and exit as scripts need it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kvplane.controlplane import directory_cli
from kvplane.controlplane.cli import app
from kvplane.controlplane.fetch import Report

RUN = CliRunner()
A = {"replica": "a", "gpu_blocks": 1200, "cpu_blocks": 0, "disk_blocks": 3, "blocks": 1203}
STATS: Report = {
    "shards": [{"shard": 7, "node": "127.0.0.1:20001", "pages": 1, "blocks": 1203, "bytes": 13000}],
    "replicas": [
        {**A, "live": True, "shard": 7, "node": "n", "log_bytes": 900, "checkpoint_bytes": 12000, "bytes": 13000},
        {**A, "replica": "b", "live": False, "shard": None, "node": None, "log_bytes": None, "checkpoint_bytes": None}
        | {"bytes": None},
    ],
    "levels": [{"level": "gpu", "blocks": 1200}],
    "tenants": [{**A, "tenant": "acme/default", "tag": "0f" * 8, "replicas": 1}],
    "routers": [
        {"router": "r1", "table_bytes": 5 << 20, "most_bytes": 4 << 30, "errors": 0, "unread": ["b"]}
        | {"pages": [{"replica": "a", "epoch": 9, "seq": 4, "blocks": 1203, "age_ms": 51.2, "behind": 0, "gaps": 1}]}
    ],
}
STATS["routers"][0]["pages"][0] |= {"reloads": 2, "rejected": 0, "mismatches": 0, "implausible": 0, "hasty": 0}
FOUND: Report = {"prompt_tokens": 11, "prompt_blocks": 2, "block_tokens": 4, "tenants": ["acme/default"], "holders": []}
HOLDER = {"replica": "a", "tenant": "acme/default", "live": True, "gpu_blocks": 1, "cpu_blocks": 1, "disk_blocks": 2}
HOLDER |= {"gpu_tokens": 4, "cpu_tokens": 4, "disk_tokens": 8}
AGREED: Report = {"equal": True, "replicas": [{**A, "epoch": 9, "seq": 4}], "routers": ["r1", "r2"], "findings": []}
FINDING = {"replica": "a", "copy": "mirror", "router": "r2", "what": "differs from the page", "repaired": True}
FINDING |= {"levels": [{"level": "gpu", "expected": 1200, "found": 1199}]}


class Application:
    """Answers what a test gives it, and notes what it was asked."""

    def __init__(self) -> None:
        self.report: Report = {}
        self.asked: list[tuple[str, object]] = []

    def fetch(self, state: Path, url: str | None, path: str, body: object = None, patience_s: float = 0) -> Report:
        self.asked.append((path, body))
        return self.report


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Application:
    fake = Application()
    monkeypatch.setattr(directory_cli, "fetch", fake.fetch)
    monkeypatch.setenv("COLUMNS", "200")
    return fake


def run(*arguments: str) -> Result:
    return RUN.invoke(app, ["directory", *arguments])


def test_stats_are_tables_in_units_that_people_read(application: Application) -> None:
    application.report = STATS
    shown = run("stats").output

    assert application.asked == [("/directory/stats", None)]
    for text in ("127.0.0.1:20001", "12.7 KiB", "1,203", "b (leaving)", "acme/default", "5.0 MiB of at most 4.0 GiB"):
        assert text in shown
    assert "10.8" in shown  # bytes a block
    assert "It has not read the page of b." in shown


def test_json_is_what_the_application_says(application: Application) -> None:
    for command, report in (("stats", STATS), ("verify", AGREED), ("find", FOUND)):
        application.report = report
        prompt = ["--prompt", "hi"] if command == "find" else []

        assert json.loads(run(command, "--json", *prompt).output) == report


@pytest.mark.parametrize(
    "arguments, query",
    [
        (["--prompt", "hi"], {"text": "hi", "chat": False, "tenant": None}),
        (["-p", "hi", "--chat", "--tenant", "acme/default"], {"text": "hi", "chat": True, "tenant": "acme/default"}),
        (["--tokens", "1, 2,3"], {"tokens": [1, 2, 3], "chat": False, "tenant": None}),
    ],
)
def test_find_sends_the_one_prompt_it_was_given(
    application: Application, arguments: list[str], query: dict[str, object]
) -> None:
    application.report = FOUND
    result = run("find", *arguments)

    assert application.asked == [("/directory/find", query)]
    assert "11 tokens, 2 whole blocks" in result.output
    assert "Nobody holds its first block for acme/default." in result.output


def test_find_reads_a_file_and_shows_each_holder(application: Application, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("from a file")
    application.report = {**FOUND, "holders": [HOLDER]}
    result = run("find", "--file", str(tmp_path / "prompt.txt"))

    [(_, query)] = application.asked
    assert query == {"text": "from a file", "chat": False, "tenant": None}
    assert "gpu+cpu+disk" in result.output


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        ([], "give one of --prompt, --tokens, --file; got none"),
        (["--prompt", "a", "--tokens", "1"], "got --prompt and --tokens"),
        (["--tokens", "1,x"], "whole numbers"),
        (["--file", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_find_asks_for_one_prompt(application: Application, arguments: list[str], wanted: str) -> None:
    result = run("find", *arguments)

    assert result.exit_code == 2
    assert wanted in " ".join(result.output.replace("│", " ").split())
    assert application.asked == []


def test_verify_exits_with_zero_only_where_all_agree(application: Application) -> None:
    application.report = AGREED
    agreed = run("verify")
    application.report = {**AGREED, "equal": False, "findings": [FINDING]}
    differs = run("verify")

    assert agreed.exit_code == 0
    assert "2 of 2 equal" in agreed.output
    assert "All copies agree." in agreed.output
    assert differs.exit_code == 1
    assert "1 of 2 equal" in differs.output
    wanted = "a: the mirror of router r2 differs from the page; gpu: 1,199 blocks, not 1,200; repaired"
    assert wanted in differs.output


@pytest.mark.parametrize("command", [[], ["stats"], ["find"], ["verify"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = run(*command, "--help")

    assert result.exit_code == 0
    assert "Usage" in result.output
