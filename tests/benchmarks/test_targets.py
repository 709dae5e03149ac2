"""The benchmark's targets judge what was measured."""

import importlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def targets(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))  # the benchmark's files import each other
    yield importlib.import_module("targets")
    for name in ("targets", "delay"):
        sys.modules.pop(name, None)


def run(seconds, **changes):
    measured = {"seconds": seconds, "cpu": 1.0, "requests": 10, "connections": 1, "bytes": 1_000_000}
    return measured | {"failure": None} | changes


def judged(targets, *, quick=False, ours=(), peer=()):
    facts = {"title": "50 windows", "files": 1, "blocks": 10, "bytes": 1_000_000}
    runs = {"rio-terrascope[http2]": list(ours), "a peer": list(peer)}
    results = {
        "profile": "home", "server": "http2", "quick": quick,
        "workloads": {"windows": facts}, "runs": {"windows": runs}, "growth": {},
    }  # fmt: skip
    return targets.report(results)


def test_what_is_fast_and_frugal_meets_all(targets):
    met, text = judged(targets, ours=[run(0.25)], peer=[run(0.25)])
    assert met
    assert text.count("met ") == 5  # ratio, connections, bytes, requests, limit


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"connections": 2}, "2 50 windows (NOT MET)"),
        ({"requests": 13}, "1.08 50 windows (NOT MET)"),
        ({"bytes": 1_050_000}, "1.01 50 windows (NOT MET)"),
        ({"failure": "429"}, "inf 50 windows (NOT MET)"),
    ],
)
def test_a_single_bad_run_is_seen(targets, changes, words):
    runs = [run(0.25), run(0.25, **changes), run(0.25)]
    met, text = judged(targets, ours=runs, peer=[run(0.25)])
    assert not met
    assert words in text


def test_a_slow_median_is_seen_but_not_in_the_quick_form(targets):
    slow = {"ours": [run(0.2), run(0.3), run(0.3)], "peer": [run(0.25)]}
    met, text = judged(targets, **slow)
    assert not met
    assert "1.2 50 windows (NOT MET)" in text
    assert judged(targets, quick=True, **slow)[0]
