"""Blocks in files, one each: what cannot be read back exactly as it was written is not there.

A file is a checksum, seeded with the block's digest, and behind it the keys and values. Nothing is synced: the folder
serves one process and is empty when that starts, and a torn file fails its checksum.
"""

import asyncio
import fcntl
import logging
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import xxhash

from .model_folder import Array

log = logging.getLogger(__name__)

_CHECKSUM_BYTES = 16
_SUFFIX = ".kv"
_LOCK = "kv-tier.lock"  # no other folder within the same base has one, and those are left alone

P = ParamSpec("P")
T = TypeVar("T")


class DiskTier:
    """Reads and writes in a thread each, so that neither the event loop nor a reader waits for what is written."""

    def __init__(self, folder: Path, shape: Sequence[int]) -> None:
        self.folder = folder
        self._shape = tuple(shape)
        self._bytes = _CHECKSUM_BYTES + 4 * int(np.prod(shape))
        self._reader = ThreadPoolExecutor(1, "disk-read")
        self._writer = ThreadPoolExecutor(1, "disk-write")

    async def write(self, digest: bytes, kv: Array) -> bool:
        """Keep a block; False if the disk will not have it."""
        return await _run(self._writer, self._write, digest, kv)

    async def remove(self, digest: bytes) -> None:
        await _run(self._writer, self._remove, digest)

    async def read(self, digests: Sequence[bytes]) -> list[Array]:
        """Bring blocks back, up to the first that is not there as it was written."""
        return await _run(self._reader, self._read, digests)

    async def close(self) -> None:
        for thread in (self._reader, self._writer):
            await asyncio.to_thread(thread.shutdown)

    def _path(self, digest: bytes) -> Path:
        return self.folder / f"{digest.hex()}{_SUFFIX}"

    def _write(self, digest: bytes, kv: Array) -> bool:
        path = self._path(digest)
        unfinished = path.with_suffix(".unfinished")
        try:
            with unfinished.open("wb") as file:
                file.write(_checksum(digest, kv.data.cast("B")))
                file.write(kv.data)
            unfinished.replace(path)
        except OSError as exc:
            log.warning("%s does not take a block, which is lost to the cache: %s", self.folder, exc)
            unfinished.unlink(missing_ok=True)
            return False
        return True

    def _remove(self, digest: bytes) -> None:
        try:
            self._path(digest).unlink(missing_ok=True)
        except OSError as exc:
            log.warning("a block in %s cannot be removed and takes up its room: %s", self.folder, exc)

    def _read(self, digests: Sequence[bytes]) -> list[Array]:
        found: list[Array] = []
        for digest in digests:
            kv = self._read_one(digest)
            if kv is None:
                break
            found.append(kv)
        return found

    def _read_one(self, digest: bytes) -> Array | None:
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            return None  # it had to make room in the meantime
        except OSError as exc:
            log.warning("a block in %s cannot be read and is computed again: %s", self.folder, exc)
            return None
        kv = memoryview(data)[_CHECKSUM_BYTES:]
        if len(data) != self._bytes or data[:_CHECKSUM_BYTES] != _checksum(digest, kv):
            log.warning("%s is not as it was written; its block is computed again", self._path(digest))
            return None
        return np.frombuffer(kv, "<f4").reshape(self._shape)


@asynccontextmanager
async def open_disk(base: Path, shape: Sequence[int]) -> AsyncIterator[DiskTier]:
    """A folder of its own within `base`, gone on leaving; those that processes left behind go first."""
    stack = ExitStack()
    folder = await asyncio.to_thread(stack.enter_context, _own_folder(base))
    disk = DiskTier(folder, shape)
    try:
        yield disk
    finally:
        await disk.close()
        await asyncio.to_thread(stack.close)


@contextmanager
def _own_folder(base: Path) -> Iterator[Path]:
    base.mkdir(parents=True, exist_ok=True)
    folder = base / secrets.token_hex(8)
    with ExitStack() as held:
        with (base / "lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # or another that starts would take this folder for one left behind
            for lock in base.glob(f"*/{_LOCK}"):
                if _is_left_behind(lock):
                    shutil.rmtree(lock.parent, ignore_errors=True)
            folder.mkdir(mode=0o700)  # prompts can be told from their keys and values
            fcntl.flock(held.enter_context((folder / _LOCK).open("w")), fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_left_behind(lock: Path) -> bool:
    """Whether no process holds it any more: a lock ends with its process, however that ends."""
    with lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _checksum(digest: bytes, kv: memoryview) -> bytes:
    """Of the block under this name: another block's file under its name does not pass."""
    found: bytes = xxhash.xxh3_128_digest(kv, seed=int.from_bytes(digest[:8], "big"))
    return found


async def _run(thread: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, function, *args)
