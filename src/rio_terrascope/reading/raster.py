"""One open raster, for code that looks at it first and then reads it part by part."""

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar

from rio_terrascope.reading.engine import Engine
from rio_terrascope.reading.jobs import Request
from rio_terrascope.reading.parts import Part

T = TypeVar("T")


class Raster:
    """An open raster; a context manager.

    Parameters
    ----------
    url : str or path-like
        As for `rasterio.open`.

    Attributes
    ----------
    dataset : rasterio.DatasetReader
        The metadata. Of a file on the network it has no pixels.

    Raises
    ------
    AccessDeniedError, rasterio.errors.RasterioIOError
        On entering: as in `read_windows`.
    """

    def __init__(self, url: str | PathLike[str]) -> None:
        self._url = url
        self._engine = Engine()

    def __enter__(self) -> Self:
        self._engine.__enter__()
        try:
            self.dataset = self._engine.open(self._url)
        except BaseException:
            self._engine.__exit__()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        self._engine.__exit__()

    def read(self, parts: Iterable[Part], read: Callable[[Part, Any], T]) -> Iterator[T]:
        """Read parts, several at once.

        Parameters
        ----------
        parts : iterable of Part
        read : callable
            Called in a thread, with a part and a dataset that has its pixels: `Part.read`, for example.

        Yields
        ------
        The results of `read`, in the order of the parts
        """

        def request(part: Part) -> Request[T]:
            return Request(self._url, lambda _: part, read)

        return self._engine.run(map(request, parts))
