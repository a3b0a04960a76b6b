"""Settings: defaults, a file over them, words for the common cases, and no key that nobody reads."""

from pathlib import Path

import pytest

from kvplane.controlplane.config import RAY, Settings
from kvplane.controlplane.errors import ConfigError
from kvplane.policies import PolicySettings
from kvplane.workers import EmbeddedSettings


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    settings = Settings.load(written(tmp_path, "replicas: {count: 5}\nrouting: {name: power_of_two}\n"))

    assert settings.replicas.count == 5
    assert settings.replicas.max_ongoing_requests == Settings().replicas.max_ongoing_requests
    assert settings.policy_name == "power_of_two"


@pytest.mark.parametrize(
    "word, engine, name",
    [("tiny", "embedded", "tiny"), ("models/my.gguf", "embedded", "my"), ("simulated", "simulated", "simulated")],
)
def test_a_bare_word_is_a_model_or_an_engine(word: str, engine: str, name: str) -> None:
    settings = Settings.load(None, engine=word)

    assert settings.engine.engine == engine
    assert settings.name == name


def test_an_engines_kind_may_be_left_out(tmp_path: Path) -> None:
    settings = Settings.load(written(tmp_path, "engine: {model: tiny, blocks: 64}"))

    assert isinstance(settings.engine, EmbeddedSettings)
    assert settings.engine.blocks == 64


def test_routing_is_a_policy_by_name_or_left_to_ray() -> None:
    assert Settings.load(None, routing="round_robin").routing == PolicySettings(name="round_robin")
    assert Settings.load(None, routing="ray").routing == RAY
    assert Settings.load(None, routing="ray").policy_name == RAY


def test_paths_are_absolute_since_rays_processes_run_elsewhere() -> None:
    settings = Settings.load(None, state=Path("here"))

    assert settings.state.is_absolute()
    assert settings.tenants_file == settings.state / "tenants.yaml"


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("replicsa: {count: 1}", "replicsa"),
        ("replicas: {count: 0}", "greater than or equal to 1"),
        ("routing: best", "round_robin"),
        ("engine: {model: tiny, block: 3}", "block"),
        ("[1, 2]", "a mapping"),
        ("a: [", "settings.yaml"),
    ],
)
def test_what_cannot_stand_is_named_with_its_file(tmp_path: Path, text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        Settings.load(written(tmp_path, text))

    assert "settings.yaml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        Settings.load(tmp_path / "absent.yaml")


def test_an_override_leaves_the_rest_of_its_part_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "replicas: {max_count: 8, drain_s: 5}\nengine: {model: tiny, blocks: 64}")
    settings = Settings.load(path, replicas={"count": 5}, engine={"model": "smollm2"}, routing={"name": None})

    assert (settings.replicas.count, settings.replicas.max_count, settings.replicas.drain_s) == (5, 8, 5)
    assert isinstance(settings.engine, EmbeddedSettings)
    assert (settings.engine.model, settings.engine.blocks) == ("smollm2", 64)


def test_a_password_in_a_url_is_printed_nowhere(tmp_path: Path) -> None:
    settings = Settings.load(written(tmp_path, "directory: {url: 'redis://:hunter2@host'}"))
    with pytest.raises(ConfigError) as caught:
        Settings.load(written(tmp_path, "directory: {url: ['redis://:hunter2@host']}"))

    assert "hunter2" not in repr(settings) + settings.model_dump_json() + str(caught.value)


def test_requests_wait_in_the_router_unless_ray_places_them_or_a_file_says_otherwise(tmp_path: Path) -> None:
    off = Settings.load(written(tmp_path, "router: {fair_queue: false}\n"))

    assert [each.queues_here for each in (Settings(), Settings(routing=RAY), off)] == [True, False, False]


def test_a_fleet_that_scales_is_given_more_than_ray_aims_at() -> None:
    fixed = Settings.load(None, replicas={"target_ongoing_requests": 4.5})
    scales = Settings.load(None, replicas={"target_ongoing_requests": 4.5, "max_count": 8})

    assert (fixed.least_in_flight, scales.least_in_flight) == (0, 6)
