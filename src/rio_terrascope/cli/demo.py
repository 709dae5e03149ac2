"""``tsread demo``: read a protected tile from end to end, on a local stand-in for Terrascope."""

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.output import Progress, output_file, overwrite_option

if TYPE_CHECKING:
    from rasterio.windows import Window

    from rio_terrascope.sandbox import Request, Sandbox

TOKEN_LIFETIME = 2.0  # seconds; 300 at Terrascope
LIFETIMES = 5  # token lifetimes that the dataset stays open
WINDOWS = 50
PERMANENT_WATER = 80  # a class of WorldCover
PICTURE = 1000  # pixels along the longer side


@terrascope.command(short_help="See tsread work, without an account.")
@click.option(
    "--tile",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="WorldCover tile to read.  [default: a synthetic one]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    is_eager=True,
    help="Picture of the land to write.  [default: quicklook.png, or quicklook-2.png ...]",
)
@overwrite_option
def demo(tile: Path | None, output: Path | None, overwrite: bool) -> None:
    """Read windows of a protected tile while its token expires again and again.

    Starts a local stand-in for Terrascope whose tokens live two seconds, keeps one dataset open for
    several of these lifetimes, and compares every pixel with the file. Exit code 1 if anything was
    wrong.

    \b
        tsread demo
        tsread demo --tile ESA_WorldCover_10m_2020_v100_N00E006_Map.tif
    """
    if str(output) == "-":
        raise click.BadParameter("the picture needs a file; stdout is for the report.", param_hint="'-o'")
    from rio_terrascope.sandbox import Sandbox

    output = output or _free_name()
    with output_file(output, overwrite=overwrite) as picture:
        click.echo("Starting a local stand-in for Terrascope ...", err=True)
        with Sandbox(tiles=[tile] if tile else [], token_lifetime=TOKEN_LIFETIME) as server:
            report = _read_and_count(server, picture)
    for line in report.lines():
        click.echo(line)
    click.echo(f"The picture: {output}")
    click.echo("\nThe same with the real service:\n")
    click.echo('    with terrascope_env("USERNAME", "PASSWORD"):')
    click.echo('        with rasterio.open("https://services.terrascope.be/download/....tif") as src:')
    click.echo("            src.read(1, window=window)")
    if report.wrong:
        raise click.ClickException(f"this should not have happened: {'; '.join(report.wrong)}.")


def _free_name() -> Path:
    """Return an unused name for the picture, so that the demo can be run again."""
    names = itertools.chain(["quicklook.png"], (f"quicklook-{n}.png" for n in itertools.count(2)))
    return next(path for path in map(Path, names) if not path.exists())


@dataclass
class Report:
    """What happened: the requests that the servers counted, and the pixels that were compared."""

    requests: "list[Request]"
    file_size: int
    seconds_open: float
    windows: int
    pixels: int
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.logins != 1:
            self.wrong.append(f"{self.logins} logins instead of one")
        if self.refreshes < LIFETIMES - 1:
            self.wrong.append(f"only {self.refreshes} refreshes")
        if dead := [r for r in self._of("data") if r.authorization != "valid"]:
            self.wrong.append(f"{len(dead)} requests without a valid token")
        if leaked := [r for r in self._of("other") if r.authorization != "none"]:
            self.wrong.append(f"{len(leaked)} requests took a token to another server")
        if not self._of("other"):
            self.wrong.append("the other server was not asked")

    def _of(self, server: str) -> "list[Request]":
        return [request for request in self.requests if request.server == server]

    @property
    def logins(self) -> int:
        """Password grants."""
        return sum(request.grant == "password" for request in self.requests)

    @property
    def refreshes(self) -> int:
        """Refresh grants."""
        return sum(request.grant == "refresh_token" for request in self.requests)

    def lines(self) -> list[str]:
        """Return the report in six lines."""
        data, other = self._of("data"), self._of("other")
        valid = sum(request.authorization == "valid" for request in data)
        sent = sum(request.sent for request in data + other)
        carried = sum(request.authorization != "none" for request in other)
        right = "no" if any("pixels" in wrong for wrong in self.wrong) else "yes"
        return [
            f"Logins:      {self.logins} with the password, then {self.refreshes} refreshes",
            f"Dataset:     open for {self.seconds_open:.0f} s, while each token lived {TOKEN_LIFETIME:.0f} s",
            f"Windows:     {self.windows} read, {self.pixels:,} pixels, all equal to the file: {right}",
            f"Requests:    {len(data)} to the data server, {valid} of them with a valid token",
            f"Elsewhere:   {len(other)} redirected to another server, {carried} of them with the token",
            f"Bytes read:  {sent / 1e6:.2f} MB of a file of {self.file_size / 1e6:.2f} MB",
        ]


def _read_and_count(server: "Sandbox", picture: Path) -> Report:
    import numpy as np
    import rasterio

    from rio_terrascope import Settings, terrascope_env

    file = server.file()
    wrong: list[str] = []
    pixels = 0
    settings = Settings.from_environ(server.environ)
    with (
        rasterio.open(file) as local,
        terrascope_env(server.username, server.password, settings=settings) as env,
        env.open(server.url()) as remote,
    ):
        opened = time.monotonic()
        windows = _windows_over_land(local)
        pace = LIFETIMES * TOKEN_LIFETIME / len(windows)
        with Progress(f"Reading over {LIFETIMES} token lifetimes") as progress:
            for number, window in enumerate(windows, start=1):
                block = remote.read(1, window=window)
                pixels += block.size
                if not np.array_equal(block, local.read(1, window=window)):
                    wrong.append(f"other pixels than the file's at {window}")
                progress.update(number, len(windows))
                # as an analysis would take its time, so that the windows spread over the lifetimes
                time.sleep(max(0.0, opened + number * pace - time.monotonic()))
        seconds_open = time.monotonic() - opened
        _draw_land(remote, picture)
        with env.open(server.redirect_url()) as elsewhere:
            elsewhere.read(1, window=windows[0])
    return Report(server.requests(), file.stat().st_size, seconds_open, len(windows), pixels, wrong)


def _windows_over_land(dataset: Any) -> "list[Window]":
    """Choose windows over land at random, so that few of them share a block."""
    import numpy as np
    from rasterio.windows import Window

    size = 512
    land = np.argwhere(_land(dataset, size))
    if len(land) == 0:
        raise click.ClickException(f"{dataset.name} has no land to read.")
    chosen = np.random.default_rng(1).permutation(land)[:WINDOWS]
    return [Window(int(col) * size, int(row) * size, size, size) for row, col in chosen]


def _draw_land(dataset: Any, picture: Path) -> None:
    """Write a PNG of the part with land, from an overview, in the dataset's own colours."""
    import warnings

    import numpy as np
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.windows import Window

    step, margin = 32, 4  # pixels of the dataset; rows and columns of the thumbnail
    rows, cols = (np.flatnonzero(_land(dataset, step).any(axis=axis)) for axis in (1, 0))
    top, left = (int(max(side[0] - margin, 0)) * step for side in (rows, cols))
    bottom = min(int(rows[-1] + margin) * step, dataset.height)
    right = min(int(cols[-1] + margin) * step, dataset.width)
    scale = min(1.0, PICTURE / max(bottom - top, right - left))
    height, width = round((bottom - top) * scale), round((right - left) * scale)
    pixels = dataset.read(1, window=Window(left, top, right - left, bottom - top), out_shape=(height, width))
    colours = dataset.colormap(1) | {0: (255, 255, 255, 255)}  # no data in white
    profile = {"driver": "PNG", "height": height, "width": width, "count": 1, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it is a picture
        with rasterio.open(picture, "w", **profile) as png:
            png.write(pixels, 1)
            png.write_colormap(1, colours)


def _land(dataset: Any, step: int) -> Any:
    """Return where there is land, one cell for `step` by `step` pixels."""
    classes = dataset.read(1, out_shape=(dataset.height // step, dataset.width // step))
    return (classes != (dataset.nodata or 0)) & (classes != PERMANENT_WATER)
