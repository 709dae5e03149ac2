"""Memory stays bounded: datasets are few, and are closed in time."""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from rio_terrascope import read_windows
from rio_terrascope.reading import datasets as datasets_module
from rio_terrascope.reading.datasets import Datasets

from .conftest import BLOCK


def test_a_dataset_is_closed_after_so_many_pixels(noise, monkeypatch):
    monkeypatch.setattr(datasets_module, "PIXELS_KEPT", 10 * BLOCK * BLOCK)
    opened = []
    with Datasets(keep=4) as datasets:
        for _ in range(10):
            # 2 x 2 pixels around the common corner of four blocks
            datasets.read(noise, opened.append, window=Window(BLOCK - 1, BLOCK - 1, 2, 2))
        assert len(set(opened)) == 4  # three reads each
        assert [dataset.closed for dataset in dict.fromkeys(opened)] == [True, True, True, False]
    assert all(dataset.closed for dataset in opened)


def test_no_more_datasets_are_open_than_workers_twice_over(noise, tmp_path, monkeypatch):
    files = [tmp_path / f"{number}.tif" for number in range(30)]
    for file in files:
        file.hardlink_to(noise)
    opened, most = [], 0

    def counting(url):
        nonlocal most
        dataset = rasterio.open(url)
        opened.append(dataset)
        most = max(most, sum(not each.closed for each in opened))
        return dataset

    monkeypatch.setattr(datasets_module, "open_dataset", counting)
    for _ in read_windows([(file, Window(0, 0, 10, 10)) for file in files], max_workers=2):
        pass
    assert len(opened) == 30
    assert most <= 2 * 2 + 2 + 1
    assert all(dataset.closed for dataset in opened)


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
