"""Areas of pixels, compared with an independent geodesic computation."""

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine

from rio_terrascope.analysis.areas import Ellipsoid, pixel_areas, total_area

pyproj = pytest.importorskip("pyproj")
WGS84 = CRS.from_epsg(4326)


def ring_area(transform, crs, left, top, right, bottom, steps=400):
    """Return the area of a rectangle of pixels in m2, with edges followed in small steps."""
    across, down = np.linspace(left, right, steps), np.linspace(top, bottom, steps)
    columns = np.concatenate([across, np.full(steps, right), across[::-1], np.full(steps, left)])
    rows = np.concatenate([np.full(steps, top), down, np.full(steps, bottom), down[::-1]])
    x = transform.a * columns + transform.b * rows + transform.c
    y = transform.d * columns + transform.e * rows + transform.f
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    return abs(pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])


@pytest.mark.parametrize("latitude", [0.0, 0.3, 45.0, -33.3, 60.0, 82.0])
@pytest.mark.parametrize("size", [1 / 12000, 0.25])
def test_a_grid_of_degrees(latitude, size):
    transform = Affine(size, 0, 6, 0, -size, latitude)
    areas = pixel_areas(transform, (3, 5), WGS84)
    assert areas.shape == (3, 1)
    for row in range(3):
        # for a small pixel, pyproj itself is exact to about ten digits
        assert areas[row, 0] == pytest.approx(ring_area(transform, 4326, 0, row, 1, row + 1), rel=2e-6)


def test_the_whole_earth():
    transform = Affine(1, 0, -180, 0, -1, 90)
    areas = pixel_areas(transform, (180, 360), WGS84)
    # the area of the WGS 84 ellipsoid
    assert areas.sum() * 360 == pytest.approx(510_065_621_724_088.44, rel=1e-12)
    half_a_pixel_over = pixel_areas(Affine(1, 0, -180, 0, -1, 90.5), (181, 360), WGS84)
    assert half_a_pixel_over.sum() * 360 == pytest.approx(510_065_621_724_088.44, rel=1e-12)


def test_a_sphere():
    assert Ellipsoid(1000.0, 0.0).equal_area_y(np.pi / 6) == pytest.approx(500.0)
    assert Ellipsoid.of(CRS.from_epsg(4326)) == Ellipsoid()
    assert Ellipsoid.of(CRS.from_epsg(4277)).semi_major == 6377563.396  # Airy's, of the British grid


@pytest.mark.parametrize(
    ("epsg", "transform"),
    [
        (32632, Affine(10, 0, 166000, 0, -10, 6000000)),
        (3857, Affine(10, 0, 1e6, 0, -10, 8.4e6)),
        (3857, Affine(5000, 0, 1e6, 0, -5000, 8.4e6)),
        (3035, Affine(100, 0, 4e6, 0, -100, 3e6)),
        (3413, Affine(500, 0, 300000, 0, -500, -900000)),
        (4326, Affine(0.001, 0.0005, 6, 0.0005, -0.001, 50)),  # rotated
        (32660, Affine(1000, 0, 640000, 0, -1000, 7000000)),  # across the antimeridian
    ],
)
def test_other_grids(epsg, transform):
    crs = CRS.from_epsg(epsg)
    areas = pixel_areas(transform, (90, 130), crs)
    assert areas.shape == (90, 130)
    assert areas.sum() == pytest.approx(ring_area(transform, epsg, 0, 0, 130, 90), rel=1e-6)
    for row, column in ((0, 0), (45, 77), (89, 129)):
        alone = ring_area(transform, epsg, column, row, column + 1, row + 1)
        assert areas[row, column] == pytest.approx(alone, rel=1e-3)


def test_a_projected_grid_may_reach_beyond_the_poles():
    """Some global grids do by half a pixel, or by rounding. PROJ's equal-area projection refuses them."""
    transform = Affine(50_000, 0, -20_037_508, 0, -50_000, 10_018_754 + 25_000)
    areas = pixel_areas(transform, (401, 802), CRS.from_epsg(4087))
    assert areas.sum() == pytest.approx(510_065_621_724_088.44, rel=1e-3)


def test_without_a_crs_there_is_no_area():
    with pytest.raises(ValueError, match="no CRS"):
        pixel_areas(Affine.identity(), (2, 2), None)


def test_total_area_of_what_is_chosen():
    chosen = np.array([[True, False, True], [False, False, True]])
    assert total_area(chosen, np.array([[2.0], [5.0]])) == 9.0
    assert total_area(chosen, np.arange(6.0).reshape(2, 3)) == 0 + 2 + 5
