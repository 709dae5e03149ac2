"""Where the blocks of a TIFF file lie, from the bytes of it that are there.

A TIFF file is a chain of directories. Each describes an image: the raster itself, an overview, a mask. A
directory is a list of tags; a tag's value that takes more than 4 bytes (8 in BigTIFF) lies elsewhere in
the file, and so do the two arrays with the offset and the size of each block.
https://www.awaresystems.be/imaging/tiff/bigtiff.html, TIFF 6.0 section 2.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioIOError

from rio_terrascope.gdal.sparse import Piece

Ints = npt.NDArray[np.int64]
Range = tuple[int, int]
"""An offset and a length, in bytes."""

FIRST = 32768  # bytes of a file that are fetched first; most headers are within
_AHEAD = 4096  # bytes that are fetched with a directory, since what belongs to it often follows
_START = 1024  # bytes by which GDAL recognizes the format
_SMALL = 8192  # bytes of an image's arrays that are fetched along with what else is missing
_PART = 2**17  # bytes that are fetched at least of a strip that can be divided
_LIBTIFF_STRIP = 8192  # bytes; STRIP_SIZE_DEFAULT of libtiff
_GAP = 4096  # ranges are joined if no more than this lies between them
_MOST_DIRECTORIES = 1000
_MOST_TAGS = 65_536  # of all directories
_MOST_BYTES = 256 * 1024 * 1024  # of all values

_TYPES = {
    1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "u8", 11: "f4",
    12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip
_INTEGERS = ("u1", "u2", "u4", "u8")

# tags
_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_SIZES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325
_SUB_DIRECTORIES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING = 330, 338, 339, 530
_EXIF, _GPS, _INTEROPERABILITY, _METADATA = 34665, 34853, 40965, 42112
_USED = {
    _KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP,
    _STRIP_SIZES, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES, _SUB_DIRECTORIES,
    _EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING, _EXIF, _GPS, _INTEROPERABILITY,
}  # fmt: skip
_OFFSETS, _SIZES = (_TILE_OFFSETS, _STRIP_OFFSETS), (_TILE_SIZES, _STRIP_SIZES)
_REDUCED, _MASK = 1, 4  # bits of _KIND

_OLD_JPEG, _JPEG = 6, 7
_YCBCR = 6


class NotPlanned(Exception):
    """The blocks of a file cannot be told from its header. GDAL can read it from memory as a whole."""


@dataclass(frozen=True, eq=False)
class Image:
    """The blocks of the raster, an overview or a mask. All sizes are in pixels.

    Attributes
    ----------
    planes : int
        How often the grid of blocks is there: once a band if the bands lie apart, otherwise once.
    offsets, sizes : ndarray of int64, shape (planes * blocks,)
        The place of each block in the file, in bytes, row by row. A sparse block has the size 0.
    absent : tuple of (offset, length)
        Where the two arrays lie in the file if they are left out. They are empty then.
    """

    width: int
    height: int
    block_width: int
    block_height: int
    bands: int
    planes: int
    offsets: Ints
    sizes: Ints
    has_alpha: bool = False
    absent: tuple[Range, ...] = ()

    @property
    def across(self) -> int:
        """How many blocks lie side by side."""
        return -(-self.width // self.block_width)

    @property
    def down(self) -> int:
        """How many blocks lie one below the other."""
        return -(-self.height // self.block_height)


@dataclass(frozen=True, eq=False)
class Level:
    """A resolution at which GDAL reads the raster, or its mask."""

    image: Image
    mask: Image | None


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the blocks of a file lie.

    Attributes
    ----------
    size : int
        Of the file, in bytes.
    header : list of (offset, length)
        What GDAL reads to open the file, with all overviews and masks, but for `left_out`.
    left_out : list of (offset, length)
        The arrays of images that are not there: no pixel of these can be read. GDAL needs some bytes in
        their place (`decode.open_pieces`).
    levels : list of Level
        The raster at full resolution, then its overviews, in GDAL's order.
    """

    size: int
    header: list[Range]
    left_out: list[Range]
    levels: list[Level]
    mask_needs_all_bands: bool

    @classmethod
    def of(cls, size: int, pieces: Iterable[Piece]) -> "Layout | list[Range]":
        """Return the layout of a file, or the ranges that are needed first.

        The offsets and sizes of an image's blocks may take more bytes than all else. They are left out if
        they are not there. `blocks.missing_arrays` tells which ones a window needs.

        Parameters
        ----------
        size : int
            Of the whole file, in bytes.
        pieces : iterable of (offset, bytes-like)
            What is there of the file. Call again with the ranges added that this returned.

        Raises
        ------
        NotPlanned
            If it is not a TIFF file, or one whose header does not tell where its blocks are.
        rasterio.errors.RasterioIOError
            If the header is damaged. It takes no more memory than the header has.
        """
        file = _File(size, pieces)
        directories = list(_directories(file))
        if file.missing:
            small = [d.absent for d in directories if sum(length for _, length in d.absent) <= _SMALL]
            return joined(itertools.chain(file.missing, *small), size)
        left_out = list(itertools.chain(*(directory.absent for directory in directories)))
        if _overlap(file.used, left_out, size):  # a damaged file, or one in which images share arrays
            return joined(left_out, size)
        header = joined([(0, _START), *file.used], size, gap=0)
        left_out = joined(left_out, size, gap=0)
        return cls(size, header, left_out, *_levels(directories))


def joined(ranges: Iterable[Range], size: int, gap: int = _GAP) -> list[Range]:
    """Return the ranges in order, within a file of `size` bytes, with neighbours made one."""
    result: list[list[int]] = []
    for offset, length in sorted(ranges):
        end = min(offset + length, size)
        if result and offset <= result[-1][1] + gap:
            result[-1][1] = max(result[-1][1], end)
        elif end > offset:
            result.append([offset, end])
    return [(offset, end - offset) for offset, end in result]


def _overlap(some: list[Range], others: list[Range], size: int) -> bool:
    some, others = joined(some, size, gap=0), joined(others, size, gap=0)
    both = joined([*some, *others], size, gap=0)
    return sum(length for _, length in both) < sum(length for _, length in [*some, *others])


class _File:
    """The bytes of a file that are there, and which ones are missing."""

    def __init__(self, size: int, pieces: Iterable[Piece]) -> None:
        self.size = size
        self.missing: list[Range] = []
        self.used: list[Range] = []
        self.spent = 0  # bytes that were read; those that were read twice count twice
        self.entries = 0  # of all directories
        self._runs: list[tuple[int, bytearray]] = []
        for offset, content in sorted(pieces, key=lambda piece: piece[0]):
            if self._runs and offset <= (end := self._runs[-1][0] + len(self._runs[-1][1])):
                self._runs[-1][1].extend(memoryview(content)[end - offset :])
            else:
                self._runs.append((offset, bytearray(content)))
        start = self.read(0, min(size, _START), ahead=FIRST)
        self.used = [(0, min(size, 16))]
        self.is_cog = False
        if start is None:
            return
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        version = int.from_bytes(start[2:4], "little" if order == "<" else "big")
        if order is None or version not in (42, 43) or size < 16:
            raise NotPlanned("this is not a TIFF file")
        self.order: Literal["<", ">"] = "<" if order == "<" else ">"
        self.big = version == 43
        if self.big and self.number(start[4:8], "u2")[0] != 8:
            raise NotPlanned("this is not a TIFF file")
        self.first = int(self.number(start[8:16], "u8")[0] if self.big else self.number(start[4:8], "u4")[0])
        ghost = self.peek(16 if self.big else 8, 1024)
        self.is_cog = b"GDAL_STRUCTURAL_METADATA_SIZE=" in ghost and b"LAYOUT=IFDS_BEFORE_DATA" in ghost

    def number(self, content: bytes | bytearray, kind: str) -> Ints:
        """Return the numbers that some bytes are."""
        return np.frombuffer(content, self.order + kind).astype(np.int64)

    def peek(self, offset: int, length: int) -> bytes:
        """Return what is there of a range, from its beginning."""
        for start, run in self._runs:
            if start <= offset < start + len(run):
                return bytes(run[offset - start : offset - start + length])
        return b""

    def check(self, offset: int, length: int) -> None:
        """Raise an error if a part cannot be."""
        if offset < 0 or offset + length > self.size:
            raise _damaged("a part lies outside of the file")
        self.spent += length
        if self.spent > _MOST_BYTES:
            raise _damaged(f"it has more than {_MOST_BYTES} bytes")

    def read(self, offset: int, length: int, *, ahead: int = 0) -> bytes | None:
        """Return a range; if it is not there, note that it is needed, with `ahead` bytes at least."""
        self.check(offset, length)
        content = self.peek(offset, length)
        there = len(content)
        if there < length:
            self.missing.append((offset + there, max(length, ahead) - there))
            return None
        self.used.append((offset, length))
        return content


def _damaged(what: str) -> RasterioIOError:
    return RasterioIOError(f"the header is damaged: {what}")


class _Directory:
    """The tags of a directory. `values` has those that are needed, if their values are there."""

    def __init__(self, file: _File, offset: int, ahead: int, *, big: bool, is_sub: bool = False) -> None:
        self.is_sub = is_sub
        self.is_whole = False
        self.next = 0
        self.values: dict[int, Ints] = {}
        self.metadata = b""
        self.counts: dict[int, int] = {}  # of the values of a tag
        self.absent: list[Range] = []  # the arrays of blocks, if they are left out
        kind, width, start = ("u8", 8, 8) if big else ("u4", 4, 2)
        number = file.read(offset, start, ahead=ahead)
        if number is None:
            return
        count = int(file.number(number, "u8" if big else "u2")[0])
        file.entries += count if 0 <= count < 65536 else _MOST_TAGS + 1
        if file.entries > _MOST_TAGS:
            raise _damaged(f"more than {_MOST_TAGS} tags")
        entry = np.dtype([("tag", "u2"), ("type", "u2"), ("count", kind), ("value", f"V{width}")])
        body = file.read(offset + start, count * entry.itemsize)
        if body is None:
            return
        arrays: dict[int, tuple[Range, str]] = {}
        entries: list[Any] = np.frombuffer(body, entry.newbyteorder(file.order)).tolist()
        for tag, type_, count, inline in entries:
            dtype = _TYPES.get(type_)
            if dtype is None or tag in self.counts:
                continue
            self.counts[tag] = count
            length = count * int(dtype[1])
            content: bytes | None = inline[:length]
            if length > width:
                range_ = int(file.number(inline, kind)[0]), length
                if tag in (*_OFFSETS, *_SIZES):
                    arrays[tag] = range_, dtype
                    continue
                content = file.read(*range_)
            if content and tag in _USED and dtype in _INTEGERS:
                self.values[tag] = file.number(content, dtype)
            if content and tag == _METADATA:
                self.metadata = content
        self._read_arrays(file, arrays)
        after = offset + start + len(body)
        # some files end with their last directory, and without a 0 for the next one
        following = file.read(after, min(width, file.size - after))
        if following is not None:
            self.next = int(file.number(following.ljust(width, b"\0"), kind)[0])
            self.is_whole = True

    def _read_arrays(self, file: _File, arrays: dict[int, tuple[Range, str]]) -> None:
        """Read the arrays of blocks, or leave them out if they are not there."""
        ranges = [range_ for range_, _ in arrays.values()]
        may_be_absent = not self.hides_subsampling and all(
            # bytes of 255 in their place have to lead beyond the end of the file
            tag in arrays
            and arrays[tag][1] in _INTEGERS
            and (tag in _SIZES or 256 ** int(arrays[tag][1][1]) > file.size)
            for tag in self.counts.keys() & {*_OFFSETS, *_SIZES}
        )
        if may_be_absent and any(len(file.peek(*range_)) < range_[1] for range_ in ranges):
            for range_ in ranges:
                file.check(*range_)
            self.absent = ranges
            return
        for tag, (range_, dtype) in arrays.items():
            content = file.read(*range_)
            if content and dtype in _INTEGERS:
                self.values[tag] = file.number(content, dtype)

    @property
    def hides_subsampling(self) -> bool:
        """Whether libtiff looks for the subsampling of a JPEG in the first block, as there is no tag."""
        return (
            self.value(_COMPRESSION, 1) == _JPEG
            and self.value(_PHOTOMETRIC, 0) == _YCBCR
            and _SUBSAMPLING not in self.values
        )

    def value(self, tag: int, default: int) -> int:
        """Return the first number of a tag."""
        values = self.values.get(tag)
        return default if values is None else int(values[0])

    def blocks(self) -> list[Ints]:
        """Return the offsets and sizes of the blocks. In some tiled files, the tags are those of strips."""
        empty = np.empty(0, np.int64)
        return [self.values.get(tile, self.values.get(strip, empty)) for tile, strip in (_OFFSETS, _SIZES)]

    @property
    def blocks_told(self) -> int:
        """Of how many blocks it has the offsets and sizes, be they there or left out."""
        if not self.absent:
            return min(map(len, self.blocks()))
        return min(self.counts.get(tile, self.counts.get(strip, 0)) for tile, strip in (_OFFSETS, _SIZES))


def _directories(file: _File) -> Iterator[_Directory]:
    """Yield the directories of images that are there, in GDAL's order."""
    if file.missing:
        return
    waiting = [(file.first, False)]
    seen: set[int] = set()
    ahead = FIRST if file.is_cog else _AHEAD  # the directories follow each other, or may be anywhere
    while waiting:
        offset, is_sub = waiting.pop(0)
        if offset == 0 or offset in seen:
            raise _damaged("its directories go round in a circle" if offset else "it has no directory")
        if len(seen) == _MOST_DIRECTORIES:
            raise _damaged(f"more than {_MOST_DIRECTORIES} directories")
        seen.add(offset)
        directory = _Directory(file, offset, ahead, big=file.big, is_sub=is_sub)
        if directory.next and not is_sub:
            waiting.append((directory.next, False))
        if len(seen) == 1:
            subs = directory.values.get(_SUB_DIRECTORIES, np.empty(0)).tolist()
            waiting[:0] = [(int(sub), True) for sub in subs]
        nested = [directory.value(tag, 0) for tag in (_EXIF, _GPS)]
        while nested:
            if at := nested.pop():
                nested.append(_Directory(file, at, _AHEAD, big=False).value(_INTEROPERABILITY, 0))
        if directory.is_whole:
            offsets, sizes = directory.blocks()
            if directory.hides_subsampling and len(offsets) and len(sizes):
                file.read(int(offsets[0]), int(sizes[0]))
            yield directory


def _levels(directories: list[_Directory]) -> tuple[list[Level], bool]:
    """Tell which directory is what, as `GTiffDataset::ScanDirectories` of GDAL does."""
    main = _image(directories[0])
    overviews: list[Image] = []
    masks: dict[int, Image] = {}  # by the number of the level
    for directory in directories[1:]:
        kind = directory.value(_KIND, 0)
        if not kind & (_REDUCED | _MASK) or (_SUB_DIRECTORIES in directory.values and not directory.is_sub):
            continue
        image = _image(directory)
        if not kind & _MASK:
            if image.bands == main.bands and len(overviews) < 30:
                overviews.append(image)
            continue
        is_bytes = directory.value(_BITS, 1) <= 8 and directory.value(_SAMPLE_FORMAT, 1) == 1
        candidates = list(enumerate([main, *overviews]))
        for number, of in candidates[1:] if kind & _REDUCED else candidates[:1]:
            fits = (of.width, of.height) == (image.width, image.height) and image.bands in (1, main.bands)
            if number not in masks and is_bytes and fits:
                masks[number] = image
                break
    levels = [Level(image, masks.get(number)) for number, image in enumerate([main, *overviews])]
    return levels, b"NODATA_VALUES" in directories[0].metadata


def _image(directory: _Directory) -> Image:
    width, height = directory.value(_WIDTH, 0), directory.value(_HEIGHT, 0)
    bands = directory.value(_SAMPLES, 1)
    compression = directory.value(_COMPRESSION, 1)
    tiled = _TILE_WIDTH in directory.values
    if tiled:
        block_width, block_height = directory.value(_TILE_WIDTH, 0), directory.value(_TILE_HEIGHT, 0)
    else:
        block_width, block_height = width, min(directory.value(_ROWS_PER_STRIP, height), height)
    if not 0 < width < 2**31 or not 0 < height < 2**31 or not 0 < bands < 65536:
        raise _damaged(f"a raster of {width} x {height} pixels and {bands} bands")
    if not 0 < block_width < 2**31 or not 0 < block_height < 2**31:
        raise _damaged(f"blocks of {block_width} x {block_height} pixels")
    offsets, sizes = directory.blocks()
    told = directory.blocks_told
    if not told or compression == _OLD_JPEG:
        raise NotPlanned("the header does not tell where the blocks are")
    planes = bands if directory.value(_PLANAR, 1) == 2 else 1
    if not tiled and block_height == height and len(offsets) == len(sizes) == told == 1:
        block_height, offsets, sizes = _strip_in_parts(directory, offsets, sizes)
        told = len(offsets)
    image = Image(
        width,
        height,
        block_width,
        block_height,
        bands,
        planes,
        offsets,
        sizes,
        bool(np.isin(directory.values.get(_EXTRA_SAMPLES, ()), (1, 2)).any()),
        tuple(directory.absent),
    )
    blocks = image.across * image.down * planes
    if told < blocks:
        raise _damaged(f"the offsets of {told} of {blocks} blocks")
    return image


def _strip_in_parts(directory: _Directory, offsets: Ints, sizes: Ints) -> tuple[int, Ints, Ints]:
    """Divide a raster that is one large strip of uncompressed rows. Return the rows, and the arrays.

    libtiff divides it into strips of at least one row and about 8 KB (`ChopUpSingleUncompressedStrip`), and
    GDAL reads no others. Here, several of these are a part.
    """
    width, height = directory.value(_WIDTH, 0), directory.value(_HEIGHT, 0)
    row = -(-width * directory.value(_SAMPLES, 1) * directory.value(_BITS, 1) // 8)
    is_plain = directory.value(_COMPRESSION, 1) == 1 and directory.value(_PHOTOMETRIC, 0) != _YCBCR
    size = int(sizes[0])
    if not is_plain or directory.value(_PLANAR, 1) != 1 or size != row * height or not _PART < size < 2**32:
        return height, offsets, sizes
    rows = max(1, _LIBTIFF_STRIP // row)
    rows *= max(1, _PART // (rows * row))
    starts = np.arange(0, size, rows * row, dtype=np.int64)
    return rows, offsets[0] + starts, np.minimum(size - starts, rows * row)
