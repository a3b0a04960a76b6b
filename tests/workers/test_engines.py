from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from kvplane.workers.engines import EngineSettings, prepare_model
from kvplane.workers.simulated_engine import SimulatedSettings

SETTINGS: TypeAdapter[EngineSettings] = TypeAdapter(EngineSettings)


def test_settings_are_found_by_the_engines_name() -> None:
    read = SETTINGS.validate_python({"engine": "simulated", "decode_ms": 2})

    assert read == SimulatedSettings(decode_ms=2)


@pytest.mark.parametrize("wrong", [{"engine": "vellum"}, {"engine": "embedded", "decode_ms": 2}, {"model": "tiny"}])
def test_an_unknown_engine_or_key_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SETTINGS.validate_python(wrong)


@pytest.mark.parametrize("chosen", [{"engine": "embedded", "model": "tiny"}, {"engine": "simulated"}])
def test_every_engine_has_a_folder_with_a_tokenizer(tmp_path: Path, chosen: dict[str, object]) -> None:
    folder = prepare_model(SETTINGS.validate_python(chosen | {"cache": tmp_path}))

    assert folder.parent == tmp_path
    assert (folder / "tokenizer.json").is_file()
