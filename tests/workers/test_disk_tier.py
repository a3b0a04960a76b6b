import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from kvplane.workers.disk_tier import DiskTier, open_disk
from kvplane.workers.model_folder import Array

SHAPE = (2, 3, 4)
A, B, C = (letter * 32 for letter in (b"a", b"b", b"c"))


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskTier]:
    async with open_disk(tmp_path, SHAPE) as opened:
        yield opened


def kv(first: float) -> Array:
    return np.arange(first, first + 24, dtype=np.float32).reshape(SHAPE)


def file_of(disk: DiskTier, digest: bytes) -> Path:
    return disk.folder / f"{digest.hex()}.kv"


def folders(base: Path) -> list[Path]:
    return list(base.glob("*/"))


async def test_blocks_come_back_to_the_bit_and_in_the_order_asked_for(disk: DiskTier) -> None:
    odd = np.full(SHAPE, np.nan, np.float32)
    written = [await disk.write(digest, values) for digest, values in ((A, kv(0)), (B, kv(100)), (C, odd))]
    found = await disk.read([C, A, B])

    assert written == [True, True, True]
    assert [each.tobytes() for each in found] == [odd.tobytes(), kv(0).tobytes(), kv(100).tobytes()]
    assert {each.shape for each in found} == {SHAPE}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good, _other: good[:40] + bytes([good[40] ^ 1]) + good[41:],
        lambda good, _other: bytes([good[0] ^ 1]) + good[1:],  # the checksum itself
        lambda good, _other: good[:-4],
        lambda good, _other: good + b"\0",
        lambda _good, _other: b"",
        lambda _good, other: other,
    ],
    ids=["a bit", "a bit of the checksum", "short", "long", "empty", "another block"],
)
async def test_a_file_that_is_not_as_it_was_written_is_a_miss(
    disk: DiskTier, spoil: Callable[[bytes, bytes], bytes]
) -> None:
    for digest, values in ((A, kv(0)), (B, kv(100)), (C, kv(200))):
        await disk.write(digest, values)
    path = file_of(disk, B)
    path.write_bytes(spoil(path.read_bytes(), file_of(disk, A).read_bytes()))

    found = await disk.read([A, B, C])
    assert [each.tobytes() for each in found] == [kv(0).tobytes()]


async def test_what_was_removed_or_never_written_is_a_miss(disk: DiskTier) -> None:
    await disk.write(A, kv(0))
    await disk.remove(A)
    await disk.remove(B)

    assert await disk.read([A]) == []
    assert await disk.read([B]) == []
    assert not list(disk.folder.glob("*.kv"))


async def test_a_disk_that_takes_nothing_says_so_and_leaves_nothing(disk: DiskTier) -> None:
    file_of(disk, A).mkdir()  # the rename that ends a write fails

    assert not await disk.write(A, kv(0))
    assert not list(disk.folder.glob("*.unfinished"))
    shutil.rmtree(disk.folder)
    assert not await disk.write(B, kv(0))
    assert await disk.read([B]) == []


async def test_a_folder_is_its_own_and_gone_on_leaving(tmp_path: Path) -> None:
    async with open_disk(tmp_path, SHAPE) as one, open_disk(tmp_path, SHAPE) as other:
        await one.write(A, kv(0))

        assert await other.read([A]) == []
        assert len(await one.read([A])) == 1
        assert one.folder.stat().st_mode & 0o777 == 0o700
    assert folders(tmp_path) == []


async def test_what_a_killed_process_left_goes_and_nothing_else_does(tmp_path: Path) -> None:
    left, foreign = tmp_path / "left", tmp_path / "photographs"
    for folder in (left, foreign):
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
    (left / "kv-tier.lock").touch()  # nobody holds it
    async with open_disk(tmp_path, SHAPE) as living:
        await living.write(A, kv(0))
        async with open_disk(tmp_path, SHAPE):
            assert len(await living.read([A])) == 1

    assert not left.exists()
    assert (foreign / "file").exists()
