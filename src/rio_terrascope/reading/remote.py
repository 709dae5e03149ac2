"""A file on the network, as far as its bytes have come."""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from rasterio.errors import RasterioIOError

from rio_terrascope.reading.blocks import missing_arrays, window_ranges
from rio_terrascope.reading.decode import open_pieces, open_whole_file
from rio_terrascope.reading.fetching import Fetcher
from rio_terrascope.reading.parts import Part
from rio_terrascope.reading.pieces import Range
from rio_terrascope.reading.tiff import Layout, NotPlanned

_FIRST = 32 * 2**10  # bytes: the whole header of most Cloud-Optimized GeoTIFFs
_AT_ONCE = 2**20  # bytes
_MOST_IN_MEMORY = 256 * 2**20  # of a file that is not a TIFF


class Remote:
    """A file on the network: its header, and where its blocks lie.

    Attributes
    ----------
    source : Source
    is_known : bool
        Whether the header is here, or the whole of a file that is not a TIFF. Large parts of the header
        may be left out until they are needed; then it is False again.
    is_for_gdal : bool
        Whether GDAL must open it itself: a VRT, a large file that is not a TIFF, a rare format.
    waiting : list
        The jobs that wait until it is known.
    users : int
        How many need it.
    """

    def __init__(self, url: str, fetcher: Fetcher) -> None:
        self.url = url
        self.source = fetcher.open(url)
        self.is_known = self.is_for_gdal = False
        self.waiting: list[Any] = []
        self.users = 0
        self._fetcher = fetcher
        self._came: dict[int, bytes] = {}  # of the header, or of the whole file
        self._asked: set[Range] = set()  # for the header
        self._layout: Layout | None = None
        self._opened = contextlib.ExitStack()
        self._dataset: Any = None
        self._ask([(0, _FIRST)])

    def awaits(self, offset: int, length: int) -> bool:
        """Whether a range was asked for that belongs to the header."""
        return (offset, length) in self._asked

    def add_header(self, offset: int, length: int, data: bytes) -> None:
        """Note bytes of the header, and ask for what is missing.

        Raises
        ------
        rasterio.errors.RasterioIOError
            If the header is damaged.
        """
        self._came[offset] = data
        self._asked.remove((offset, length))
        if self._asked:
            return
        size = self.source.size or 0
        try:
            layout = Layout.of(size, sorted(self._came.items()))
        except NotPlanned:
            self._add_whole(size)
            return
        if isinstance(layout, Layout):
            self._layout, self.is_known = layout, True
        else:
            self._ask(layout)

    def _add_whole(self, size: int) -> None:
        """Ask for the rest of a file that is not a TIFF, or see whether GDAL can open it from memory."""
        there = self.nbytes
        if there < size <= _MOST_IN_MEMORY and b"<VRTDataset" not in self._came[0][:1024]:
            self._ask([(start, min(_AT_ONCE, size - start)) for start in range(there, size, _AT_ONCE)])
            return
        self.is_known = True
        try:
            with self.open({}):
                pass
        except RasterioIOError:
            self.is_for_gdal = True
            self._came.clear()

    def _ask(self, ranges: list[Range]) -> None:
        new = [range_ for range_ in ranges if range_ not in self._asked]
        self.is_known = False
        self._asked.update(new)
        self._fetcher.ask(self.source, new)

    @property
    def dataset(self) -> Any:
        """A dataset to look into, but not to read from."""
        if self._dataset is None:
            self._dataset = self._opened.enter_context(self.open({}))
        return self._dataset

    def ranges(self, part: Part) -> list[Range] | None:
        """Return where the blocks of a part lie: none if it is empty, or if the whole file is here.

        If the header does not tell it yet, ask for what is missing, and return None.
        """
        if self._layout is None or 0 in part.shape:
            return []
        if missing := missing_arrays(self._layout, part.window, part.shape, masks=part.masks):
            self._ask(missing)
            return None
        return window_ranges(self._layout, part.window, part.shape, part.bands, masks=part.masks)

    def open(self, blocks: Mapping[int, bytes]) -> AbstractContextManager[Any]:
        """Open the file with its header and some blocks, by their offsets. Reading others fails."""
        layout = self._layout  # taken before `_came`, which another thread may extend
        if layout is None:
            return open_whole_file(self.url, b"".join(data for _, data in sorted(self._came.items())))
        there = sorted({**self._came, **blocks}.items())
        return open_pieces(self.url, layout.size, there, left_out=layout.left_out)

    @property
    def nbytes(self) -> int:
        """The size of the header in bytes."""
        return sum(map(len, self._came.values()))

    def close(self) -> None:
        """Close `dataset`, until it is used again."""
        self._dataset = None
        self._opened.close()
