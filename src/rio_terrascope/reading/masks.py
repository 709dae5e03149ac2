"""Which pixels hold data: the one rule for sampling, statistics, pictures and written masks.

If a raster has a mask band or an alpha band, that band decides, and otherwise the nodata value. NaN is
never data: not beside another nodata value, not without one, and not under a mask band that marks it
as valid. GDAL's statistics skip NaN in the same way. ``dataset.read(masked=True)`` does not: rasterio
masks NaN only if it is the nodata value.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import MaskFlags


def has_mask(dataset: Any, bands: Sequence[int]) -> bool:
    """Tell whether a mask or alpha band, rather than a nodata value, marks the pixels without data."""
    plain = ([MaskFlags.nodata], [MaskFlags.all_valid])
    return any(dataset.mask_flag_enums[band - 1] not in plain for band in bands)


def is_valid(
    pixels: npt.NDArray[Any], nodata: Sequence[float | None], mask: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.bool_]:
    """Tell for each pixel whether it holds data.

    Parameters
    ----------
    pixels : ndarray, shape (bands, ...)
    nodata : sequence of float or None
        The nodata value of each band.
    mask : ndarray of uint8, optional
        The pixels' masks, as `read_masks` returns them, if the raster has masks (`has_mask`). They
        replace the nodata values.

    Returns
    -------
    ndarray of bool, shape (bands, ...)
    """
    if mask is not None:
        valid = np.asarray(mask != 0)
    else:
        valid = np.ones(pixels.shape, bool)
        for band, value in enumerate(nodata):
            if value is not None:
                valid[band] = pixels[band] != value
    if pixels.dtype.kind in "fc":
        valid &= ~np.isnan(pixels)
    return valid
