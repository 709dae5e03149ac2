"""Memory stays bounded."""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

MILLION = """
import re, sys
import numpy as np
from rio_terrascope import sample
urls = [f"{sys.argv[1]}/{number}.tif" for number in range(100)]
points = np.random.default_rng(2).random((1_000_000, 2)) * 10
values = sample(urls, points)
rows, columns = (512 * (10 - points[:, 1])).astype(int), (512 * points[:, 0]).astype(int)
everything = np.load(f"{sys.argv[1]}/all.npy", mmap_mode="r")
print(np.array_equal(values.data[:, 0], everything[rows, columns]), values.mask.any())
# getrusage would include the parent's memory
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_a_million_points_over_a_hundred_files(tmp_path):
    everything = np.random.default_rng(1).integers(1, 255, (5120, 5120)).astype("uint8")
    np.save(tmp_path / "all.npy", everything)
    profile = {"driver": "GTiff", "width": 512, "height": 512, "count": 1, "dtype": "uint8", "nodata": 0}
    for number in range(100):
        row, column = divmod(number, 10)
        place = {"crs": "EPSG:4326", "transform": from_origin(column, 10 - row, 1 / 512, 1 / 512)}
        with rasterio.open(tmp_path / f"{number}.tif", "w", tiled=True, **profile, **place) as file:
            file.write(everything[row * 512 : row * 512 + 512, column * 512 : column * 512 + 512], 1)
    done = subprocess.run(
        [sys.executable, "-c", MILLION, tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    right, megabytes = done.stdout.splitlines()
    assert right == "True False"
    assert int(megabytes) < 400
