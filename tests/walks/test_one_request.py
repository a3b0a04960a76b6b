"""One request on a real Ray, a real Redis and a real engine: it lands where its prefix is, and a query says why."""

import json
import random
import string
from functools import partial

import httpx
import openai
import pytest
from typer.testing import CliRunner

from kvplane.controlplane.cli import app
from kvplane.controlplane.config import Settings
from kvplane.controlplane.fetch import Report
from kvplane.controlplane.local import Serving
from kvplane.controlplane.status import fetch_status
from kvplane.tests.walks.waiting import all_ended, at_most, rows_once, wait_until

pytestmark = pytest.mark.walk

MODEL = "tiny"


def text(seed: int, letters: int = 600) -> str:
    return "".join(random.Random(seed).choices(string.ascii_lowercase + " ", k=letters))


def client(serving: Serving, tenant: str = "acme") -> openai.OpenAI:
    return openai.OpenAI(base_url=serving.url, api_key=serving.keys[tenant], max_retries=0, timeout=60)


def chat(serving: Serving, prompt: str, tenant: str = "acme") -> tuple[str, int]:
    """The answer and the cached tokens of one greedy chat."""
    answer = client(serving, tenant).chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": prompt}], max_tokens=8, temperature=0
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    return answer.choices[0].message.content or "", answer.usage.prompt_tokens_details.cached_tokens or 0


def told(settings: Settings, *command: str) -> Report:
    """What `kvplane directory` says."""
    result = CliRunner().invoke(app, ["directory", *command, "--json", "--state", str(settings.state)])
    assert result.exit_code == 0, result.output
    report: Report = json.loads(result.output)
    return report


def held(settings: Settings, prompt: str, tenant: str = "acme/default") -> Report:
    return told(settings, "find", "--prompt", prompt, "--chat", "--tenant", tenant)


def test_a_repeated_prompt_goes_where_its_prefix_is_and_says_the_same(serving: Serving, settings: Settings) -> None:
    prompt = text(1)
    cold, cached_cold = chat(serving, prompt)
    before = len(rows_once(settings.decisions_file, all_ended(1)))
    warm = [chat(serving, prompt) for _ in range(4)]

    assert cached_cold == 0
    assert all(answer == cold for answer, _ in warm)
    assert all(cached > 500 for _, cached in warm)
    rows = rows_once(settings.decisions_file, all_ended(before + 4))[:5]
    assert len({row.chosen for row in rows}) == 1
    assert [row.predicted_cached_tokens for row in rows] == [row.actual_cached_tokens for row in rows]


def test_another_tenants_identical_prompt_finds_nothing_and_its_own_second_does(serving: Serving) -> None:
    prompt = text(2)

    assert chat(serving, prompt, "acme")[1] == 0
    assert chat(serving, prompt, "acme")[1] > 0
    assert chat(serving, prompt, "globex")[1] == 0
    assert chat(serving, prompt, "globex")[1] > 0


def test_streams_and_completions_say_what_whole_answers_say(serving: Serving) -> None:
    here = client(serving)
    prompt = text(3)
    whole = here.completions.create(model=MODEL, prompt=prompt, max_tokens=12, temperature=0)
    stream = here.completions.create(
        model=MODEL,
        prompt=prompt,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)

    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 12
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert (chunks[-1].usage.prompt_tokens_details.cached_tokens or 0) > 0


def test_a_prompt_too_long_is_a_400_that_says_by_how_much(serving: Serving) -> None:
    with pytest.raises(openai.BadRequestError, match="more than the") as caught:
        chat(serving, "x" * 6000)

    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_key_is_refused(serving: Serving) -> None:
    stranger = openai.OpenAI(base_url=serving.url, api_key="sk-nobody-0123456789", max_retries=0)

    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_a_client_that_leaves_frees_the_replica(serving: Serving, settings: Settings) -> None:
    before = len(rows_once(settings.decisions_file, all_ended(0)))
    body = {"model": MODEL, "prompt": text(4), "max_tokens": 3000, "temperature": 0, "stream": True}
    headers = {"authorization": f"Bearer {serving.keys['acme']}"}
    with httpx.stream("POST", f"{serving.url}/completions", json=body, headers=headers, timeout=60) as response:
        next(response.iter_lines())

    rows = rows_once(settings.decisions_file, all_ended(before + 1))
    assert rows[0].finish == "cancelled"
    assert (rows[0].output_tokens or 0) < 3000


async def test_spans_have_the_clients_parents_at_forty_at_once(serving: Serving, settings: Settings) -> None:
    generator = random.Random(5)
    parents = {f"{generator.getrandbits(128) | 1:032x}": f"{generator.getrandbits(64) | 1:016x}" for _ in range(400)}
    key = serving.keys["globex"]
    async with httpx.AsyncClient(base_url=serving.url, timeout=120) as http:

        async def ask(trace: str, span: str) -> int:
            headers = {"authorization": f"Bearer {key}", "traceparent": f"00-{trace}-{span}-01"}
            body = {"model": MODEL, "prompt": trace, "max_tokens": 1}
            return (await http.post("/completions", json=body, headers=headers)).status_code

        statuses = await at_most(40, [partial(ask, trace, span) for trace, span in parents.items()])

    assert statuses == [200] * 400
    rows = rows_once(settings.decisions_file, lambda rows: parents.keys() <= {row.trace_id for row in rows})
    assert {row.trace_id: row.parent_span_id for row in rows if row.trace_id in parents} == parents


def test_status_shows_every_part_to_the_operator(serving: Serving, settings: Settings) -> None:
    report = fetch_status(settings.state, None)

    assert [shard["up"] for shard in report["registrar"]["shards"]] == [True] * 3
    held = {replica["replica"]: replica["blocks_held"] for replica in report["replicas"]}
    [router] = report["routers"]
    assert {page["replica"]: page["blocks"] for page in router["pages"]} == held
    assert all(page["age_ms"] < 2000 for page in router["pages"])


def test_the_directory_commands_say_who_holds_what_and_that_all_copies_agree(
    serving: Serving, settings: Settings
) -> None:
    prompt = text(6)
    chat(serving, prompt)
    chat(serving, text(7), "globex")
    wait_until(lambda: bool(held(settings, prompt)["holders"] and held(settings, text(7), "globex/default")["holders"]))
    found, elsewhere = held(settings, prompt), held(settings, prompt, "globex/default")
    stats, verified = told(settings, "stats"), told(settings, "verify")

    [holder] = found["holders"]
    assert holder["gpu_blocks"] == found["prompt_blocks"] > 10
    assert elsewhere["holders"] == []
    assert sum(row["blocks"] for row in stats["replicas"]) == sum(row["blocks"] for row in stats["tenants"]) > 0
    assert {row["tenant"] for row in stats["tenants"]} == {"acme/default", "globex/default"}
    assert all(row["bytes"] > 0 and row["node"].startswith("127.0.0.1:") for row in stats["shards"])
    assert sum(row["pages"] for row in stats["shards"]) == 3
    assert (verified["equal"], verified["findings"]) == (True, [])
    assert sum(row["blocks"] for row in verified["replicas"]) == sum(row["blocks"] for row in stats["replicas"])


def test_metrics_are_prometheus_text_without_tenants(serving: Serving) -> None:
    metrics = httpx.get(serving.url.removesuffix("/v1") + "/metrics").text

    assert "kvplane_replicas 3.0" in metrics
    assert 'kvplane_requests_total{endpoint="chat",status="200"}' in metrics
    assert "acme" not in metrics
