"""The reading threads: order, cancellation, and the caller's options."""

import threading

import pytest
import rasterio

from rio_terrascope.gdal import libgdal
from rio_terrascope.reading.workers import Workers


def test_what_has_not_begun_is_dropped():
    begun, gate = [], threading.Event()

    def work(item):
        begun.append(item)
        if item:
            gate.wait(30)
        return item

    with Workers(2) as workers:
        results = workers.in_order(work, range(10))
        assert next(results) == 0  # 1 and 2 wait for the gate; 3 waits for a thread
        threading.Timer(1.0, gate.set).start()
    assert set(begun) <= {0, 1, 2}


def test_a_failure_comes_in_its_turn():
    def work(item):
        if item == 3:
            raise LookupError(item)
        return item

    with Workers(2) as workers:
        results = workers.in_order(work, range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LookupError):
            next(results)


def test_the_callers_options_hold_in_the_workers():
    seen = []

    def call():  # the options of an Env hold only in the thread that entered it
        with rasterio.Env(SOME_OPTION="here", GDAL_CACHEMAX=64), Workers(2) as workers:
            seen.extend(workers.in_order(lambda _: libgdal.get_config_option("SOME_OPTION"), range(4)))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(30)
    assert seen == ["here"] * 4
    assert libgdal.get_config_option("SOME_OPTION") is None
