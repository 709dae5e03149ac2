"""The synthetic NDVI scenes of the catalogue: their names, URL paths and bounds."""

from __future__ import annotations

from dataclasses import dataclass

COLLECTION = "terrascope-s2-ndvi-v2"

CRS = "EPSG:32631"
PIXEL = 10
"""Metres."""

SIZE = 2048
"""Height and width of a scene, which covers a part of a Sentinel-2 tile of 10980 pixels."""

NODATA = 255
SCALE, OFFSET = 0.004, -0.08
"""A stored value v means an NDVI of SCALE * v + OFFSET. The largest value is 250."""

TOP = 5_660_000
LEFT = {"31UES": 589_300, "31UFS": 600_000}
"""The west edge of each tile's scenes, in metres. Like the tiles, they overlap by ten kilometres."""

FILE_SIZE = 4 * 2**20
"""The size of every file, padded so that the catalogue knows it before the file is made."""

DAYS = ("20210420", "20210530", "20210614", "20210719", "20210907", "20211012")


@dataclass(frozen=True)
class Scene:
    """A scene: one tile on one day.

    Attributes
    ----------
    tile : str
        A key of `LEFT`.
    day : str
        YYYYMMDD.
    """

    tile: str
    day: str

    @property
    def id(self) -> str:
        """The id of the item, which is also the file name without its suffix."""
        return f"{self._stem}_10M_V200"

    @property
    def _stem(self) -> str:
        return f"S2A_{self.day}T105031_{self.tile}_NDVI"

    @property
    def datetime(self) -> str:
        """The time of acquisition, in UTC."""
        return f"{self.day[:4]}-{self.day[4:6]}-{self.day[6:]}T10:50:31Z"

    @property
    def url_path(self) -> str:
        """The URL path, in the layout of Terrascope's."""
        folder = f"{self.day[:4]}/{self.day[4:6]}/{self.day[6:]}/{self._stem}_V200"
        return f"/download/Sentinel2/NDVI_V2/{folder}/{self.id}.tif"

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """West, south, east and north, in metres."""
        left, extent = LEFT[self.tile], SIZE * PIXEL
        return left, TOP - extent, left + extent, TOP

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The affine transform from pixels to metres: a, b, c, d, e, f."""
        return PIXEL, 0, LEFT[self.tile], 0, -PIXEL, TOP


SCENES = {scene.url_path: scene for scene in (Scene(tile, day) for day in DAYS for tile in LEFT)}
"""All scenes, by URL path."""
