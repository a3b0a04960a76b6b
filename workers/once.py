"""Folders that are made once on a machine, however many processes ask at a time and however their makers end."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder; whoever comes first makes it, whole, the others wait. The folder above it must exist."""
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, however it ends
        if not folder.exists():
            partial = folder.parent / f"{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a maker that was killed
            make(partial)
            partial.rename(folder)
    return folder
