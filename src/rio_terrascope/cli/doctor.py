"""``tsread doctor``: find out why a file cannot be read."""

import dataclasses
import json

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import json_option
from rio_terrascope.cli.output import printable

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "yellow"}


@terrascope.command(short_help="Find out what is wrong.")
@click.argument("url", required=False)
@json_option
@click.pass_context
def doctor(ctx: click.Context, url: str | None, as_json: bool) -> None:
    """Check all that reading needs: versions, settings, credentials, hosts, login, and URL.

    Prints whether each step is ok, and what to do next if it is not. The output holds no secret, so it
    can go into a bug report. Exit code 1 if a step failed.

    \b
        tsread doctor
        tsread doctor https://services.terrascope.be/download/....tif
    """
    from rio_terrascope.doctor import examine
    from rio_terrascope.errors import NEXT

    findings = []
    for finding in examine(url):
        findings.append(finding)
        if as_json:
            continue
        state = click.style(f"{finding.state:8}", fg=_COLOURS[finding.state])
        click.echo(f"{state}{finding.step}: {printable(finding.what)}")
        if finding.next:
            click.echo(f"{'':8}{NEXT}{printable(finding.next)}")
    failed = any(finding.state == "failed" for finding in findings)
    if as_json:
        click.echo(
            json.dumps({"ok": not failed, "steps": [dataclasses.asdict(f) for f in findings]}, indent=2)
        )
    ctx.exit(1 if failed else 0)
