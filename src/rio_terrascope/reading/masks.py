"""Which pixels hold data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import MaskFlags
from rasterio.windows import Window


def has_data(
    dataset: Any, pixels: npt.NDArray[Any], window: Window, bands: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Tell of each pixel whether it holds data: by the nodata value, or whatever mask the raster has."""
    if has_mask(dataset, bands):
        return np.asarray(dataset.read_masks(list(bands), window=window, out_shape=pixels.shape) != 0)
    counts = np.ones(pixels.shape, bool)
    for index, band in enumerate(bands):
        nodata = dataset.nodatavals[band - 1]
        if nodata is not None:
            # NaN is no data whatever the nodata value is
            counts[index] = ~np.isnan(pixels[index]) if np.isnan(nodata) else pixels[index] != nodata
    return counts


def has_mask(dataset: Any, bands: Sequence[int]) -> bool:
    """Tell whether more than a nodata value says where there is data: a mask band, an alpha band."""
    plain = ([MaskFlags.nodata], [MaskFlags.all_valid])
    return any(dataset.mask_flag_enums[band - 1] not in plain for band in bands)
