"""An origin that redirects: no command sends the token on."""

import pytest

from helpers import tokens_sent

WINDOW = ("--window", 16000, 16000, 300, 300)
COMMANDS = {
    "info": ("info", "{url}"),
    "read": ("read", "{url}", "-o", "out.tif", *WINDOW),
    "sample": ("sample", "{url}", "points.csv"),
    "stats": ("stats", "{url}", "--bbox", 7.4, 1.4, 7.42, 1.42),
    "preview": ("preview", "{url}", "-o", "out.png"),
}


@pytest.mark.parametrize(("status", "to"), [(301, "signed"), (302, "other")])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_sends_the_token_on(tsread, sandbox, command, status, to):
    sandbox.fail(403, None, server="other", method="HEAD")
    (tsread.cwd / "points.csv").write_text("lon,lat\n7.5,1.5\n")
    url = sandbox.redirect_url(to=to, status=status)
    done = tsread(*[str(part).format(url=url) for part in command])
    assert "X-Amz" not in done.stdout + done.stderr
    assert tokens_sent(sandbox.requests("other")) == {"none"}
    assert tokens_sent(sandbox.requests("data")) == {"valid"}
