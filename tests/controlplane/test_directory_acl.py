"""`kvplane directory acl` prints users that a real server takes, and keeps their passwords to files."""

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError
from typer.testing import CliRunner, Result

from kvplane.controlplane.directory_cli import directory
from kvplane.tests.servers import Server


@pytest.fixture
def run(tmp_path: Path) -> Any:  # Any: a callable of any number of texts
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(directory, ["acl", "--state", str(tmp_path), *arguments])

    return run


def test_what_it_prints_lets_in_who_has_the_urls(run: Any, tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        for line in run("--redis", server.url).stdout.splitlines():
            server.ask(*shlex.split(line))
        router = (tmp_path / "urls" / "kvplane-router.url").read_text()
        with Redis.from_url(router) as client:
            answered = client.ping()
            with pytest.raises(NoPermissionError):
                client.flushall()
        users = server.ask("ACL", "USERS")

    assert answered
    assert users == ["default", "kvplane-registrar", "kvplane-replica", "kvplane-router"]


def test_an_acl_file_of_it_starts_a_server(run: Any, tmp_path: Path) -> None:
    lines = run("--acl-file", "--role", "accounts-router", "--role", "accounts-replica").stdout
    (tmp_path / "users.acl").write_text(lines)

    with Server(tmp_path / "server", "--aclfile", str(tmp_path / "users.acl")) as server:
        users = server.ask("ACL", "USERS")

    assert users == ["default", "kvplane-accounts-replica", "kvplane-accounts-router"]


def test_passwords_are_made_once_and_printed_never(run: Any, tmp_path: Path) -> None:
    first = run("--redis", "rediss+cluster://a:1,b:2")
    again = run("--redis", "rediss://c:3", "--json")
    files = list((tmp_path / "urls").iterdir())
    passwords = [urlsplit(path.read_text()).password or "?" for path in files]

    assert [user["command"] for user in json.loads(again.stdout)] == first.stdout.splitlines()
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {urlsplit(path.read_text()).netloc.rpartition("@")[2] for path in files} == {"c:3"}
    assert len(set(passwords)) == 3
    assert not any(password in first.output + again.output for password in passwords)


def test_a_replica_that_is_named_gets_a_user_of_its_own(run: Any) -> None:
    [user] = json.loads(run("--role", "replica", "--holder", "r-0", "--shards", "1", "--json").stdout)

    assert user["user"] == "kvplane-replica-r-0"
    assert "~{kv:00.0}:r-0:log ~{kv:00.0}:r-0:checkpoint ~{kv:00.0}:r-0:head" in user["command"]


def test_how_to_apply_it_is_said_apart_from_it(run: Any, tmp_path: Path) -> None:
    shown = run()

    assert all(line.startswith("ACL SETUSER") for line in shown.stdout.splitlines())
    assert "every node" in shown.stderr
    assert str(tmp_path / "urls") in shown.stderr


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["--role", "root"], "--role is one of registrar, router, replica"),
        (["--holder", "R_0", "--role", "replica"], "a holder is named by up to 63"),
    ],
)
def test_it_says_what_it_takes(run: Any, arguments: list[str], wanted: str) -> None:
    refused = run(*arguments)

    assert refused.exit_code == 2
    assert wanted in " ".join(refused.output.replace("│", " ").split())


@pytest.mark.parametrize(
    "url, wanted", [("redis://me:pw@a:1", "without user and password"), ("http://a", "begins with")]
)
def test_a_url_that_names_no_redis_makes_no_user(run: Any, tmp_path: Path, url: str, wanted: str) -> None:
    refused = run("--redis", url)

    assert wanted in str(refused.exception)
    assert not (tmp_path / "urls").exists()
