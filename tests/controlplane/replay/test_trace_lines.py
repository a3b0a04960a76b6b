"""Lines of files: plain and packed, whole and cut off."""

import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvplane.controlplane.replay.trace import BadTrace
from kvplane.controlplane.replay.trace_lines import trace_lines

TWO = b'{"first": 1}\n{"second": 2}\n'
MANY = b"".join(b'{"number": %d}\n' % number for number in range(1000))

File = Callable[[bytes], Path]


@pytest.fixture
def file(tmp_path: Path) -> File:
    def written(data: bytes) -> Path:
        path = tmp_path / "made.jsonl"
        path.write_bytes(data)
        return path

    return written


def test_lines_are_numbered_from_1_and_blank_ones_count(file: File) -> None:
    assert list(trace_lines(file(b"a\n\nb\nc"))) == [(1, b"a"), (2, b""), (3, b"b"), (4, b"c")]


def test_a_line_may_be_longer_than_what_is_read_at_once(file: File) -> None:
    long = b"a" * 3_000_000

    assert list(trace_lines(file(long + b"\nb\n"))) == [(1, long), (2, b"b"), (3, b"")]


def zstd(data: bytes) -> bytes:
    compressed: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return compressed


PACKINGS = [gzip.compress, lzma.compress, zstd]


@pytest.mark.parametrize("pack", PACKINGS)
def test_packed_files_are_told_by_their_content(file: File, pack: Callable[[bytes], bytes]) -> None:
    plain = list(trace_lines(file(TWO)))

    assert list(trace_lines(file(pack(TWO)))) == plain
    assert list(trace_lines(file(pack(TWO[:9]) + pack(TWO[9:])))) == plain


@pytest.mark.parametrize("pack", PACKINGS)
def test_a_packed_file_that_is_cut_off_is_no_shorter_run(file: File, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(MANY)

    for kept in range(len(packed) - 1, len(packed) // 3, -7):
        with pytest.raises(BadTrace, match="cut off"):
            list(trace_lines(file(packed[:kept])))


@pytest.mark.parametrize("pack", PACKINGS)
def test_a_damaged_file_is_told(file: File, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(TWO)

    with pytest.raises(BadTrace, match="damaged"):
        list(trace_lines(file(packed + b"what is this")))


def test_zstd_without_its_package_says_what_to_install(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)

    with pytest.raises(BadTrace, match="pip install zstandard"):
        list(trace_lines(file(b"\x28\xb5\x2f\xfd and the rest")))


def test_a_line_without_end_is_not_kept(file: File) -> None:
    with pytest.raises(BadTrace, match="line 3: wanted a line of at most 67108864 bytes"):
        list(trace_lines(file(gzip.compress(TWO + b" " * 70_000_000, compresslevel=1))))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="wanted a file that can be read: Is a directory"):
        list(trace_lines(tmp_path))
    with pytest.raises(BadTrace, match=r"none\.jsonl: wanted a file that can be read: No such file"):
        list(trace_lines(tmp_path / "none.jsonl"))
