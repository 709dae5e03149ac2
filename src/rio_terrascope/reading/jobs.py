"""What is asked of the engine, and how far it has come."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, Generic, TypeVar

from rio_terrascope.reading.ordinary import naming
from rio_terrascope.reading.parts import Part
from rio_terrascope.reading.pieces import Piece, Range
from rio_terrascope.reading.remote import Remote

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    """Something to read of a raster.

    Attributes
    ----------
    url : str or path-like
        As for `rasterio.open`.
    part : callable
        Called with an open dataset, whose metadata may be used, but no pixels. Returns the `Part` to read,
        or None if no pixels are needed.
    read : callable
        Called with the part and an open dataset, in any thread. It may read the pixels of the part. Its
        result is the request's.
    otherwise : callable, optional
        Called with the error, if there is one, when it is the request's turn. It may return a result in
        place of the error, or raise.
    is_small : bool
        Whether the result takes far less memory than the pixels of the part.
    """

    url: str | PathLike[str]
    part: Callable[[Any], Part | None]
    read: Callable[[Any, Any], T]
    otherwise: Callable[[Exception], T] | None = None
    is_small: bool = False


@dataclass(frozen=True)
class Ready(Generic[T]):
    """A result for which no read is needed. It is passed on in its turn."""

    result: T


class Job:
    """A request on its way."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.url = "" if isinstance(request, Ready) else fspath(request.url)
        self.is_done = False
        self.outcome: Any = None
        self.error: Exception | None = None
        self.remote: Remote | None = None  # None for what GDAL opens itself
        self.part: Part | None = None
        self.ranges: list[Range] = []
        self.pieces: list[Piece] = []
        self.missing = 0  # of the pieces
        self.fetched = 0  # bytes of its blocks
        self.decoded = 0  # bytes of its pixels
        self.was_handed_on = False  # to a thread that reads
        self.is_second_try = False

    def read(self, dataset: Any) -> None:
        """Read the pixels."""
        try:
            with naming(self.url):
                self.outcome = self.request.read(self.part, dataset)
        except Exception as error:
            self.error = error

    def result(self) -> Any:
        """Return the outcome, or raise the error."""
        if self.error is None:
            return self.outcome
        if self.request.otherwise is None:
            raise self.error
        return self.request.otherwise(self.error)
