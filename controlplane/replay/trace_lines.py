"""The lines of a trace file, plain or compressed; told apart by the first bytes, not by the name."""

import importlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from .trace import BadTrace

_LINE_BYTES = 1 << 26  # of the longest line
_CHUNK_BYTES = 1 << 14  # what is unpacked at once: xz makes at most 7,000 times as much of it


class _Unpacking(Protocol):
    """What the decompressors of lzma, zlib and zstandard have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def trace_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and text of each line, blank ones too. Raises `BadTrace` for what is no file or not a whole one."""
    number, begun, size = 1, [b""], 0
    try:
        with path.open("rb") as file:
            for chunk in _plain(path, file):
                first, *others = chunk.split(b"\n")
                begun.append(first)
                size += len(first)
                if size > _LINE_BYTES:
                    raise BadTrace(str(path), number, f"wanted a line of at most {_LINE_BYTES} bytes, got more")
                if others:
                    for line in (b"".join(begun), *others[:-1]):
                        yield number, line
                        number += 1
                    begun, size = [others[-1]], len(others[-1])
    except OSError as exc:
        raise BadTrace(str(path), None, f"wanted a file that can be read: {exc.strerror or exc}") from exc
    yield number, b"".join(begun)


def _plain(path: Path, file: BinaryIO) -> Iterator[bytes]:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\xfd7zXZ\x00"):
        return _unpacked(path, file, "xz", lzma.LZMADecompressor, lzma.LZMAError)
    if start.startswith(b"\x1f\x8b"):
        return _unpacked(path, file, "gzip", lambda: zlib.decompressobj(wbits=31), zlib.error)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return _unpacked(path, file, "zstd", *_zstandard(path))
    return iter(lambda: file.read(1 << 20), b"")


def _unpacked(
    path: Path, file: BinaryIO, form: str, begin: Callable[[], _Unpacking], error: type[Exception]
) -> Iterator[bytes]:
    """What several compressed streams, one behind the other, hold."""
    stream = begin()
    try:
        while data := file.read(_CHUNK_BYTES):
            while data:
                stream = begin() if stream.eof else stream
                yield stream.decompress(data)
                data = stream.unused_data
    except error as exc:
        raise BadTrace(str(path), None, f"wanted whole {form} data, got some that is damaged: {exc}") from exc
    if not stream.eof:
        raise BadTrace(str(path), None, f"wanted whole {form} data, got the beginning of it: the file is cut off")


def _zstandard(path: Path) -> tuple[Callable[[], _Unpacking], type[Exception]]:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError as exc:
        raise BadTrace(str(path), None, "zstd data takes the package zstandard: pip install zstandard") from exc
    return (lambda: zstandard.ZstdDecompressor().decompressobj()), zstandard.ZstdError
