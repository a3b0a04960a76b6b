"""A public prefix on a real Ray: registered while requests run, shared by those it names, and by nobody else."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from kvplane.controlplane.accounts.commands import tenants
from kvplane.controlplane.config import Settings
from kvplane.controlplane.local import Machine, Serving

pytestmark = pytest.mark.walk

WAIT_S = 20
BLOCK = 32  # tokens
SYSTEM = "You are the assistant of a shop that sells bicycles. " * 6
NAMES = ("acme", "globex", "hooli")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("public")
    rows = [{"organisation": name, "keys": [f"sk-{name}-0123456789"]} for name in NAMES]
    (state / "tenants.yaml").write_text(yaml.safe_dump({"tenants": rows}))
    return state


@pytest.fixture(scope="module")
def serving(ray_machine: Machine, state: Path) -> Iterator[Serving]:
    engine = {"model": "tiny", "blocks": 512, "max_context": 4096}
    settings = Settings.load(None, engine=engine, replicas={"count": 1, "health_period_s": 1}, state=state)
    with ray_machine.serving(settings) as here:
        yield here


def kvplane_tenants(state: Path, *command: str) -> str:
    result = CliRunner().invoke(tenants, [*command, "--state", str(state)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def chat(serving: Serving, key: str, user: str) -> httpx.Response:
    """A chat that begins with the system prompt."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]
    body = {"model": "tiny", "messages": messages, "max_tokens": 1}
    return httpx.post(f"{serving.url}/chat/completions", json=body, headers={"x-api-key": key}, timeout=60)


def cached(serving: Serving, name: str, user: str) -> int:
    answer = chat(serving, f"sk-{name}-0123456789", user)
    tokens: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def test_named_tenants_share_the_system_prompt_and_not_what_users_say(serving: Serving, state: Path) -> None:
    (state / "prompt.txt").write_text(SYSTEM)
    kvplane_tenants(state, "public", "add", "shop", "--file", str(state / "prompt.txt"), "--for", "acme,globex")
    later, deadline = kvplane_tenants(state, "create", "initech"), time.monotonic() + WAIT_S
    while chat(serving, later, "Hello!").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)  # who lets this key in has read what was registered before it
    said = "How much is a bell? " * 10
    first, shared, own, stranger = (cached(serving, name, said) for name in ("acme", "globex", "globex", "hooli"))

    assert (first, stranger) == (0, 0)
    assert len(SYSTEM) - BLOCK < shared < len(SYSTEM) + 2 * BLOCK  # a character is a token
    assert shared % BLOCK == 0
    assert own >= shared + len(said) - BLOCK
