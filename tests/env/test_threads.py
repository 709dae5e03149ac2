"""Many threads: none ever finds the token missing, and there is one login for all."""

import random
import threading

import pytest
import rasterio

from helpers import assert_same_pixels, grants, headers_in_memory, some_windows, tokens_sent
from rio_terrascope import terrascope_env
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import S3_REDIRECT


def open_many(sandbox, failures, numbers):
    for number in numbers:
        try:
            rasterio.open(f"{sandbox.url()}?file={number}").close()
        except rasterio.RasterioIOError as error:
            failures.append(error)


def open_many_beside_a_busy_main_thread(sandbox, local_file, count=400, workers=4):
    """Open `count` files in worker threads while the main thread opens a local file in a loop."""
    failures = []
    threads = [
        threading.Thread(target=open_many, args=(sandbox, failures, range(start, count, workers)))
        for start in range(workers)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        rasterio.open(local_file).close()
    return failures


def test_400_opens_beside_a_busy_main_thread(sandbox, tiles):
    with terrascope_env():
        failures = open_many_beside_a_busy_main_thread(sandbox, tiles[0])
    assert failures == []
    requests = sandbox.requests("data")
    assert tokens_sent(requests) == {"valid"}
    assert {request.path for request in requests} == {requests[0].path}  # no sidecar, no listing
    assert len(requests) <= 3 * 400


def test_a_plain_env_fails_there(sandbox, tiles):
    """Shows that the test above can fail: options of a rasterio.Env vanish for moments."""
    with terrascope_env() as env:
        header = f"Authorization: Bearer {env.token.access_token}"
    with rasterio.Env(GDAL_HTTP_HEADERS=header, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        failures = open_many_beside_a_busy_main_thread(sandbox, tiles[0])
    assert failures
    assert "none" in tokens_sent(sandbox.requests("data"))


@pytest.mark.fault("64 threads enter and leave at random", sees="right pixels", requests="1 login")
def test_64_threads_enter_read_and_leave_in_random_order(sandbox, tiles, in_threads):
    everybody = threading.Barrier(64, timeout=30)

    def work(number):
        rng = random.Random(number)
        with terrascope_env() as env:
            everybody.wait()
            with rasterio.open(tiles[0]) as local:
                for _ in range(rng.randrange(1, 5)):
                    with env.open(sandbox.url()) as src:
                        assert_same_pixels(src, local, some_windows(2, seed=rng.random()))
                    with terrascope_env(), rasterio.open(sandbox.url()) as src:
                        assert_same_pixels(src, local, some_windows(1, seed=rng.random()))

    in_threads(*[lambda n=n: work(n) for n in range(64)])
    assert grants(sandbox.requests(), "password") == 1
    assert tokens_sent(sandbox.requests("data")) == {"valid"}
    assert headers_in_memory() == []
    assert libgdal.get_config_option(S3_REDIRECT) is None


def test_one_env_object_in_many_threads(sandbox, in_threads):
    env = terrascope_env()

    def work():
        for _ in range(3):
            with env:
                env.open(sandbox.url()).close()

    with env:
        in_threads(*[work] * 8)
    assert grants(sandbox.requests(), "password") == 1


def test_left_by_another_thread_than_entered(sandbox, in_threads):
    env = terrascope_env()
    in_threads(env.__enter__)
    rasterio.open(sandbox.url()).close()
    env.__exit__()
    assert headers_in_memory() == []
