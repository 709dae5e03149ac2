"""What is read of a raster at once."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window

from rio_terrascope.reading.masks import has_mask, is_valid

# By default GDAL accepts an overview that is up to 1.2 times too coarse, and repeats some of its pixels.
_NEVER_UPSAMPLE = {"GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD": "1"}


@dataclass(frozen=True)
class Part:
    """The pixels of a window, in a shape.

    Attributes
    ----------
    window : rasterio.windows.Window
        Inside the raster; it may have fractions of pixels.
    shape : tuple of int
        The rows and columns to read, not more than those of the window. Fewer are the nearest pixels of an
        overview that is at least as fine.
    bands : sequence of int
        From 1.
    masks : bool
        Whether the masks of the pixels are read, too.
    """

    window: Window
    shape: tuple[int, int]
    bands: Sequence[int]
    masks: bool = False

    @classmethod
    def of(cls, window: Window, bands: Sequence[int], *, masks: bool = False) -> "Part":
        """Return a part at full resolution."""
        return cls(window, (window.height, window.width), bands, masks)

    def read(self, dataset: Any, *, masked: bool = False) -> npt.NDArray[Any]:
        """Read the pixels, of shape (bands, rows, columns)."""
        native = self.shape == (self.window.height, self.window.width)
        with contextlib.nullcontext() if native else rasterio.Env(**_NEVER_UPSAMPLE):
            array: npt.NDArray[Any] = dataset.read(
                list(self.bands),
                window=self.window,
                out_shape=(len(self.bands), *self.shape),
                masked=masked,
            )
        return array

    def read_valid(self, dataset: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read the pixels, and whether each holds data. `masks` must be what `has_mask` says."""
        pixels = self.read(dataset)
        mask = None
        if has_mask(dataset, self.bands):
            mask = dataset.read_masks(list(self.bands), window=self.window, out_shape=pixels.shape)
        return pixels, is_valid(pixels, [dataset.nodatavals[band - 1] for band in self.bands], mask)

    def transform(self, dataset: Any) -> Affine:
        """Return the transform of the pixels."""
        native = dataset.window_transform(self.window)
        x, y = self.window.width / self.shape[1], self.window.height / self.shape[0]
        return Affine(native.a * x, native.b * y, native.c, native.d * x, native.e * y, native.f)

    def nbytes(self, dataset: Any) -> int:
        """Return the size of the pixels in bytes, with a mask of one byte."""
        pixel = max(np.dtype(dataset.dtypes[band - 1]).itemsize for band in self.bands) + 1
        return int(self.shape[0] * self.shape[1] * len(self.bands) * pixel)
