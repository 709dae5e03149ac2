"""doctor: finds out what is wrong, and names the next step."""

import pytest


def states(tsread, *arguments, code=0):
    report = tsread.json("doctor", *arguments, code=code)
    assert report["ok"] is (code == 0)
    return {step["step"]: (step["state"], step["what"], step["next"]) for step in report["steps"]}


def test_all_is_well(tsread, sandbox):
    found = states(tsread, sandbox.url())
    assert {state for state, _, _ in found.values()} == {"ok"}
    assert list(found) == [
        "versions", "scope", "settings", "certificates", "credentials", "login host", "data host", "login",
        "range request", "GDAL",
    ]  # fmt: skip
    assert "TERRASCOPE_USERNAME" in found["credentials"][1]
    done = tsread("doctor", sandbox.url())
    assert done.stdout.count("ok ") >= 10
    assert sandbox.password not in done.stdout + done.stderr


def test_without_credentials(stranger, sandbox):
    found = states(stranger, sandbox.url(), code=1)
    assert found["credentials"][0] == "failed"
    assert "tsread login" in found["credentials"][2]
    assert found["login"][0] == found["GDAL"][0] == "skipped"
    assert found["data host"][0] == "ok"


def test_a_wrong_password(tsread, sandbox):
    tsread.environ["TERRASCOPE_PASSWORD"] = "not-the-passw0rd"
    found = states(tsread, code=1)
    assert found["login"][0] == "failed"
    assert "password is wrong" in found["login"][1]
    assert "passw0rd" not in str(found)
    assert sum(r.grant == "password" for r in sandbox.requests("sso")) == 1


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [(403, "failed", "no access (403)"), (404, "failed", "no such file"), (503, "failed", "503")],
)
def test_the_url_is_refused(tsread, sandbox, status, state, said):
    sandbox.fail(status, None, match="WORLDCOVER")
    tsread.environ["GDAL_HTTP_MAX_RETRY"] = "0"
    found = states(tsread, sandbox.url(), code=1)
    assert found["range request"][0] == state
    assert said in found["range request"][1]
    assert found["GDAL"][0] == "failed"


def test_hosts_that_are_not_there(tsread):
    tsread.environ["TERRASCOPE_TOKEN_URL"] = "http://127.0.0.1:9/token"
    tsread.environ["TERRASCOPE_ORIGINS"] = "https://no-such-host.invalid"
    found = states(tsread, code=1)
    assert found["login host"][0] == found["data host"][0] == "failed"
    assert "no address" in found["data host"][1]


def test_settings_that_cannot_be_used(tsread):
    tsread.environ["TERRASCOPE_TOKEN_URL"] = "http://sso.example/token"
    found = states(tsread, code=1)
    assert found["settings"][0] == "failed"
    assert "https" in found["settings"][2]


def test_somebody_elses_url_and_a_local_file(tsread, sandbox):
    found = states(tsread, sandbox.other_url())
    assert found["origin"][0] == "warning"
    assert found["GDAL"][0] == "ok"
    assert {r.authorization for r in sandbox.requests("other")} == {"none"}
    assert states(tsread, str(sandbox.file()))["GDAL"][0] == "ok"


@pytest.mark.parametrize(
    ("status", "to", "head_refused", "state", "said"),
    [
        (302, "other", False, "ok", "so does plain rasterio.open"),
        (301, "other", False, "warning", "may send the token to"),
        (302, "signed", True, "warning", "may send the token to"),
        (307, "data", False, "ok", "to another URL of"),
    ],
)
def test_a_redirect(tsread, sandbox, status, to, head_refused, state, said):
    if head_refused:
        sandbox.fail(403, None, server="other", method="HEAD")
    found = states(tsread, sandbox.redirect_url(to=to, status=status))
    assert found["range request"][0] == state
    assert f"redirects ({status})" in found["range request"][1]
    assert said in found["range request"][1]
    assert "X-Amz" not in str(found)
    assert found["GDAL"][0] == "ok"
    assert {r.authorization for r in sandbox.requests("other")} <= {"none"}
