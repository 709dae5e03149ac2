"""Ctrl-C within entering or leaving a block leaves no trace, at whatever step it comes."""

import random
import signal
import threading

import pytest
import rasterio
import rasterio.env

from helpers import headers_in_memory
from rio_terrascope import TerrascopeEnv, TokenSource, terrascope_env
from rio_terrascope.env import active_env
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import HEADER_FILE, PATH_OPTIONS, PROCESS_OPTIONS, S3_REDIRECT
from rio_terrascope.registry import registry

TIMES = 200


def traces(sandbox):
    """Return all that a block leaves in the process, if it is not left as it should be."""
    prefix = f"/vsicurl/{sandbox.origin}/"
    found = {key: libgdal.get_own_path_option(prefix, key) for key in [HEADER_FILE, *PATH_OPTIONS]}
    found |= {key: libgdal.get_config_option(key) for key in [S3_REDIRECT, *PROCESS_OPTIONS]}
    found |= {f"thread {thread.name}": thread for thread in refresh_threads() if thread.is_alive()}
    found |= {"headers": headers_in_memory() or None, "entries": registry._entries or None}
    found |= {"env": active_env(), "options": registry._options._now or None}
    return {key: value for key, value in found.items() if value is not None}


def refresh_threads():
    # not those that Ctrl-C kept from starting
    threads = [t for t in threading.enumerate() if t.name == "rio-terrascope-refresh" and t.is_alive()]
    for thread in threads:
        thread.join(10)  # it has been told to end
    return threads


def options_here():
    return rasterio.env.getenv() if rasterio.env.hasenv() else None


@pytest.fixture(params=["origins", "env"])
def scope(request):
    return request.param


@pytest.fixture(params=["alone", "in another Env"])
def surroundings(request):
    """The options of this thread, which stay what they are."""
    if request.param == "alone":
        yield None
    else:
        with rasterio.Env(GDAL_HTTP_USERAGENT="mine"):
            yield options_here()


def assert_nothing_left(sandbox, surroundings, when):
    assert traces(sandbox) == {}, when
    here = options_here()
    assert (here and here.get("GDAL_HTTP_USERAGENT")) == (surroundings and "mine"), when
    assert here is None or here == surroundings, when
    assert libgdal.get_config_option("GDAL_HTTP_USERAGENT") == (surroundings and "mine"), when


def came_before_the_first_line_of_exit(error):
    """Tell whether Python raised it between the call of __exit__ and the first line of its body.

    No context manager that is written in Python can do anything about that.
    """
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    return code is TerrascopeEnv.__exit__.__code__ and last.tb_lineno == code.co_firstlineno


@pytest.mark.fault(
    "Ctrl-C at any moment of entering or leaving (200 times)",
    sees="KeyboardInterrupt; nothing left, unless it comes before the first line of `__exit__` (2 in 1,000)",
    requests="0",
)
def test_ctrl_c_at_any_moment(row, sandbox, scope, surroundings):
    tokens = TokenSource()
    tokens.get()
    sandbox.clear()
    rng = random.Random(1)
    interrupted = 0

    def enter_and_leave():
        with terrascope_env(tokens=tokens, scope=scope):
            pass

    while interrupted < TIMES:
        try:
            # as the terminal does it, at some moment of the few milliseconds
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00005, 0.003))
            try:
                enter_and_leave()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt as error:
            if came_before_the_first_line_of_exit(error):
                active_env().__exit__()
                continue
            interrupted += 1
        assert_nothing_left(sandbox, surroundings, f"after interrupt {interrupted}")
    row.costs(sandbox.requests())
    enter_and_leave()
    assert_nothing_left(sandbox, surroundings, "at the end")
