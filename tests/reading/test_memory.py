"""How many datasets are open, and for how long: what bounds the memory."""

import rasterio
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
            # two pixels by two, at the corner of four blocks
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
