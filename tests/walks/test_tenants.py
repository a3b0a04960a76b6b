"""Tenants on a real Ray: keys that come and go while requests run, limits that are told, writes that are kept back."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from kvplane.controlplane.accounts.commands import tenants
from kvplane.controlplane.config import Settings
from kvplane.controlplane.decisions import Decisions
from kvplane.controlplane.local import Machine, Serving

pytestmark = pytest.mark.walk

WAIT_S = 20
ROWS = [
    {"organisation": "acme", "keys": ["sk-acme-0123456789"], "rules": {"subdivide_by": "user"}},
    {"organisation": "busy", "keys": ["sk-busy-0123456789"], "rules": {"requests_per_minute": 3}},
    {
        "organisation": "flood",
        "keys": ["sk-flood-0123456789"],
        "rules": {"write_blocks_per_minute": 60, "write_burst_blocks": 40, "over_write_limit": "bypass"},
    },
]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("tenants")
    (state / "tenants.yaml").write_text(yaml.safe_dump({"tenants": ROWS}))
    return state


@pytest.fixture(scope="module")
def serving(ray_machine: Machine, state: Path) -> Iterator[Serving]:
    engine = {"model": "tiny", "blocks": 256, "max_context": 4096}
    settings = Settings.load(None, engine=engine, replicas={"count": 2, "health_period_s": 1}, state=state)
    with ray_machine.serving(settings) as here:
        yield here


def kvplane_tenants(state: Path, *command: str) -> str:
    result = CliRunner().invoke(tenants, [*command, "--state", str(state)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def ask(serving: Serving, key: str, prompt: str, **more: object) -> httpx.Response:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 1, **more}
    return httpx.post(f"{serving.url}/completions", json=body, headers={"x-api-key": key}, timeout=60)


def cached(response: httpx.Response) -> int:
    tokens: int = response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def until(serving: Serving, key: str, status: int) -> httpx.Response:
    """Routers follow the accounts within a second."""
    deadline = time.monotonic() + WAIT_S
    while (response := ask(serving, key, "hello there")).status_code != status and time.monotonic() < deadline:
        time.sleep(0.1)
    return response


def test_a_key_is_made_disabled_and_revoked_while_the_application_runs(serving: Serving, state: Path) -> None:
    key = kvplane_tenants(state, "create", "initech")
    made = until(serving, key, 200)
    kvplane_tenants(state, "set", "initech", "--disabled")
    disabled = until(serving, key, 403)
    kvplane_tenants(state, "set", "initech", "--enabled")
    enabled = until(serving, key, 200)
    rows = json.loads(kvplane_tenants(state, "list", "--json"))
    [id] = [each["id"] for row in rows for each in row["keys"] if each["hint"] == key[-4:]]
    kvplane_tenants(state, "revoke", id)
    revoked = until(serving, key, 401)

    assert [each.status_code for each in (made, disabled, enabled, revoked)] == [200, 403, 200, 401]
    assert disabled.json()["error"]["code"] == "tenant_disabled"


def test_a_tenants_own_rule_keeps_its_users_apart(serving: Serving) -> None:
    prompt = "what one user asked of the assistant " * 12
    ann, again, bob = (ask(serving, "sk-acme-0123456789", prompt, user=user) for user in ("ann", "ann", "bob"))

    assert cached(ann) == 0
    assert cached(again) > 0
    assert cached(bob) == 0


def test_a_request_limit_is_told_before_it_is_reached_and_when_it_is(serving: Serving) -> None:
    answers = [ask(serving, "sk-busy-0123456789", "hi there") for _ in range(4)]

    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert [each.headers["x-ratelimit-remaining-requests"] for each in answers] == ["2", "1", "0", "0"]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"


def test_beyond_its_write_limit_a_tenants_prompts_pass_the_caches_by(serving: Serving, state: Path) -> None:
    prompts = [f"document number {number} of many " + "word " * 200 for number in range(4)]
    for prompt in prompts:
        ask(serving, "sk-flood-0123456789", prompt)
    first, last = ask(serving, "sk-flood-0123456789", prompts[0]), ask(serving, "sk-flood-0123456789", prompts[-1])
    rows = [row for row in Decisions(state / "decisions.sqlite").find(last=50, tenant="flood/default") if row.chosen]

    assert cached(first) > 0
    assert cached(last) == 0
    assert sum(row.reason.startswith("bypass: ") for row in rows) >= 2
