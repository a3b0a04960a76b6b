"""Usage that the ledger does not take yet, in files that outlive their writer."""

import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from .ledger import Usage

log = logging.getLogger(__name__)

_SUFFIX = ".usage"


def usage_folder(cache: Path, secret: bytes) -> Path:
    """Where an application keeps usage on a host; `secret` tells it from others."""
    return cache.expanduser() / "usage" / hashlib.sha256(secret).hexdigest()[:16]


class UsageSpool:
    """One writer's file in a folder that all writers of an application on this host share.

    Every call blocks for as long as the disk takes.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self._folder = folder
        self._path = folder / f"{writer}{_SUFFIX}"
        self._file: BinaryIO | None = None
        self._turn = threading.Lock()

    def append(self, entries: Sequence[Usage]) -> None:
        """Keep entries; they are on the disk when it returns."""
        with self._turn:
            file = self._file = self._file or _opened(self._path)
            whole = os.fstat(file.fileno()).st_size
            try:
                file.write(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
                file.flush()
                os.fsync(file.fileno())
            except OSError:  # a full disk: half a line must not spoil what comes behind it
                os.truncate(self._path, whole)
                raise

    def kept(self) -> list[Usage]:
        """What this writer has kept."""
        with self._turn:
            return [] if self._file is None else _entries(self._path)

    def forget(self, delivered: int) -> None:
        """So many were delivered; the file goes unless there are more by now."""
        with self._turn:
            if self._file is not None and len(_entries(self._path)) == delivered:
                self._path.unlink()
                self._file.close()
                self._file = None

    def close(self) -> None:
        """Leave what is kept to whoever comes next."""
        with self._turn:
            if self._file is not None:
                self._file.close()
                self._file = None

    def adopt(self) -> None:
        """Take over what writers that are gone have left."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path == self._path:
                continue
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.append(_entries(path))
                    path.unlink()
            except (BlockingIOError, FileNotFoundError):  # its writer lives, or another one was quicker
                continue


def _opened(path: Path) -> BinaryIO:
    """The file, locked; made anew if it was taken for a dead writer's in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        file.close()


def _entries(path: Path) -> list[Usage]:
    """Whole lines only: the last may have been cut off before anybody was told that it was kept."""
    entries = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            entries.append(msgspec.json.decode(line, type=Usage))
        except msgspec.DecodeError as exc:
            log.error("%s: an entry cannot be read and is not billed: %s", path, exc)
    return entries
