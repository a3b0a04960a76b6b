"""How a model's texts begin and end, and its chat template: read off its folder, be it prepared or Hugging Face's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from .model_folder import BadModel, read_config


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Tokens are texts where a template writes them, ids where an engine ends at them."""

    bos_token: str
    eos_token: str
    eos_ids: tuple[int, ...]
    template: str | None  # base models have none


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a Hugging Face model."""
    return (folder / "config.json").is_file() and "model_type" in _read(folder / "config.json")


def read_chat_format(folder: Path, token_of: dict[int, str]) -> ChatFormat:
    """Read a model's folder; `token_of` is its tokenizer's vocabulary. Raises `BadModel`."""
    path = folder / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.exists() else None
    if is_checkpoint(folder):
        return _of_checkpoint(folder, token_of, template)
    config = read_config(folder)
    bos = "" if config.bos_id is None else token_of.get(config.bos_id, "")
    return ChatFormat(bos, token_of.get(next(iter(config.eos_ids), -1), ""), config.eos_ids, template)


def _of_checkpoint(folder: Path, token_of: dict[int, str], template: str | None) -> ChatFormat:
    """A generation's ends are in generation_config.json, where the model has one."""
    config, tokenizer = _read(folder / "config.json"), _read(folder / "tokenizer_config.json")
    generation = _read(folder / "generation_config.json")
    eos_ids = _ids(generation.get("eos_token_id", config.get("eos_token_id")))
    if (most := max(token_of)) >= (vocabulary := config.get("vocab_size", most + 1)):
        raise BadModel(
            f"{folder}: the tokenizer's ids go up to {most}, the model's are below {vocabulary}; "
            "they are not of one model"
        )
    eos = _text(tokenizer.get("eos_token")) or token_of.get(next(iter(eos_ids), -1), "")
    return ChatFormat(_text(tokenizer.get("bos_token")), eos, eos_ids, template or _template(tokenizer))


def _template(tokenizer: dict[str, Any]) -> str | None:
    """Older folders keep it in tokenizer_config.json, some with several names."""
    match tokenizer.get("chat_template"):
        case str(template):
            return template
        case [*named]:
            return next((each["template"] for each in named if each.get("name") == "default"), None)
    return None


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    return () if value is None else (value,) if isinstance(value, int) else tuple(value)


def _text(token: str | dict[str, Any] | None) -> str:
    return token.get("content", "") if isinstance(token, dict) else token or ""


def _read(path: Path) -> dict[str, Any]:  # Any: files of many makers
    """What is not there is empty. Raises `BadModel`."""
    try:
        value = msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    except msgspec.MsgspecError as exc:
        raise BadModel(f"{path} is no JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise BadModel(f"{path}: an object was wanted; got {type(value).__name__}")
    return value
