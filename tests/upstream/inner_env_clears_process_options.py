"""An inner rasterio.Env clears an option that was set outside of rasterio, by CPLSetConfigOption."""

import ctypes

import rasterio
import rasterio._env
from server import tell

KEY = b"GTIFF_USE_DEFER_STRILE_LOADING"
lib = ctypes.CDLL(rasterio._env.__file__)
lib.CPLGetConfigOption.restype = ctypes.c_char_p

lib.CPLSetConfigOption(KEY, b"NO")
with rasterio.Env():
    with rasterio.Env(**{KEY.decode(): "YES"}):
        pass
    seen = lib.CPLGetConfigOption(KEY, None)
tell(
    f"after the inner Env the option is {seen}; before it was b'NO'",
    "b'NO', as before",
    is_there=seen != b"NO",
)
