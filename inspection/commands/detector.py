"""`inspection detector`: flat-field a detector, check its health, and see how it stands.

calibrate   dark and open-beam frames -> a calibration, in force from then on
check       the same frames, later    -> fit or unfit, written down
show        what is in force, how old it is, and how the detector's health went
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from inspection.commands.options import output_format
from inspection.commands.places import DATA_DIR, echo_columns, echo_json
from inspection.detector.book import FOLDER, DetectorBook, Standing
from inspection.detector.calibrating import LEAST_FRAMES, calibrate, sum_up
from inspection.detector.calibration import write_calibration
from inspection.detector.checks import Check, add_check
from inspection.detector.frame_files import files_at, read_frame, read_frames
from inspection.detector.health import complaints_of, contrast_sensitivity, lag, measure
from inspection.errors import DataError, InputError, Unjudgeable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from inspection.detector.calibrating import Series
    from inspection.detector.calibration import Calibration
    from inspection.detector.health import Box

UNITS_S: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
SHOWN: Final = 10
"""Checks of a station that people are shown."""
UNFIT: Final = 1
"""Exit status of a check that found the detector unfit."""


@click.group()
def detector() -> None:
    """Flat-field a detector, check its health, and see how it stands."""


def _data_dir(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("var"),
        show_default=True,
        envvar=DATA_DIR,
        show_envvar=True,
        help="The server's data folder.",
    )(command)


def _frames(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, words in (
        ("--open", "Frames of the open beam: a folder, a file or a pattern; may be repeated."),
        ("--dark", "Frames without beam, in the same way."),
    ):
        command = click.option(
            name, name[2:] + "_places", metavar="PLACE", multiple=True, required=True, help=words
        )(command)
    return click.option(
        "--station", required=True, help="The station's name, as its images name it."
    )(command)


def _span(context: click.Context, param: click.Parameter, text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5}(?:\.\d+)?)([mhd])", text)
    if found is None or float(found[1]) == 0:
        raise click.BadParameter("is a number and a unit: 30m, 8h or 7d", context, param)
    return timedelta(seconds=float(found[1]) * UNITS_S[found[2]])


def _box(context: click.Context, param: click.Parameter, text: str | None) -> Box | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", text)
    if found is None:
        raise click.BadParameter("is TOP,LEFT,HEIGHT,WIDTH in pixels", context, param)
    top, left, height, width = map(int, found.groups())
    return top, left, height, width


# --- calibrate -----------------------------------------------------------------------------------


@detector.command("calibrate")
@_frames
@click.option("--detector", "serial", help="The detector's serial, where its files do not say it.")
@click.option(
    "--max-age",
    metavar="SPAN",
    default="7d",
    show_default=True,
    callback=_span,
    help="How long it holds: 8h, 7d. Older, the station's images go to review.",
)
@_data_dir
@output_format
def calibrate_detector(
    *,
    station: str,
    dark_places: tuple[str, ...],
    open_places: tuple[str, ...],
    serial: str | None,
    max_age: timedelta,
    data_dir: Path,
    form: str,
) -> None:
    """Make the station's calibration from dark and open-beam frames; it is in force at once.

    At least 8 frames of each, better 16, as the detector writes them, without its own correction.
    """
    book = _book_of(data_dir, station)
    dark, beam = _both_series(dark_places, open_places)
    made = calibrate(
        dark,
        beam,
        station=station,
        made_at=_now(),
        max_age_s=max_age.total_seconds(),
        detector=serial,
    )
    path = write_calibration(made, book.folder(station))
    if form == "json":
        echo_json({"file": str(path), "digest": made.flat.digest, **asdict(made.facts)})
        return
    click.echo(f"{path}")
    echo_columns(_calibration_rows(made))
    for line in _warnings(made):
        click.echo(f"warning: {line}", err=True)


def _warnings(made: Calibration) -> Iterator[str]:
    clusters = made.facts.clusters
    if clusters.blind:
        yield (
            f"{clusters.blind} squares of 3 x 3 bad pixels could hide a defect: images whose "
            "judged region holds one go to review"
        )
    if made.facts.open_frames < 2 * LEAST_FRAMES:
        yield f"{made.facts.open_frames} open frames add noise to every image; take 16 or more"
    if float((made.flat.offset <= 0).mean()) > 0.5:
        yield "most pixels are 0 without beam: the detector corrects its offset itself, or clips it"


# --- check ---------------------------------------------------------------------------------------


@detector.command("check")
@_frames
@click.option("--lag", "lag_file", type=click.Path(path_type=Path), help="First frame after beam.")
@click.option(
    "--sensitivity",
    "plate",
    type=click.Path(path_type=Path),
    help="A frame of a plate with a step.",
)
@click.option("--base", callback=_box, help="TOP,LEFT,HEIGHT,WIDTH of even plate, in pixels.")
@click.option("--step", callback=_box, help="The same on its step.")
@click.option("--step-percent", type=float, help="The step, in percent of the plate's thickness.")
@_data_dir
@output_format
@click.pass_context
def check_detector(
    ctx: click.Context,
    *,
    station: str,
    dark_places: tuple[str, ...],
    open_places: tuple[str, ...],
    lag_file: Path | None,
    plate: Path | None,
    base: Box | None,
    step: Box | None,
    step_percent: float | None,
    data_dir: Path,
    form: str,
) -> None:
    """Measure the detector's health against its calibration, and write it down.

    Exit status 1 when it is unfit; its images then go to review until a check finds it fit.
    """
    book = _book_of(data_dir, station)
    standing = book.standing(station)
    made = standing.calibration
    if made is None:
        raise InputError(
            standing.damage or f"there is no calibration of {station} in {data_dir}",
            remedy=f"Run `inspection detector calibrate --station {station}` first.",
        )
    dark, beam = _both_series(dark_places, open_places)
    sensitivity = None
    if plate is not None:
        if base is None or step is None or step_percent is None:
            raise click.UsageError("--sensitivity needs --base, --step and --step-percent")
        try:
            sensitivity = contrast_sensitivity(
                made, read_frame(plate), base=base, step=step, step_percent=step_percent
            )
        except Unjudgeable as error:
            raise DataError(f"{plate}: {error}", remedy=error.remedy) from error
    figures = measure(
        made,
        dark,
        beam,
        lag_percent=None if lag_file is None else lag(made, dark, read_frame(lag_file)),
        contrast_sensitivity_percent=sensitivity,
    )
    check = Check(
        checked_at=_now(),
        detector=beam.detector or made.flat.detector,
        calibration=made.flat.digest,
        dark_frames=dark.frames,
        open_frames=beam.frames,
        figures=figures,
        complaints=complaints_of(figures, standing.limits),
    )
    add_check(book.folder(station), check)
    if form == "json":
        echo_json({"station": station, "fit": check.fit, **asdict(check)})
    else:
        echo_columns(_check_rows([check]))
        for line in check.complaints:
            click.echo(f"unfit: {line}")
    if not check.fit:
        ctx.exit(UNFIT)


# --- show ----------------------------------------------------------------------------------------


@detector.command("show")
@click.option("--station", help="Only this one.")
@_data_dir
@output_format
def show_detectors(*, station: str | None, data_dir: Path, form: str) -> None:
    """Show each station's calibration, its age, bad pixels, and how the health went."""
    book = DetectorBook(data_dir / FOLDER)
    found = [each for each in book.stations() if station in (None, each.station)]
    if not found:
        what = f"of {station} " if station else ""
        raise InputError(
            f"there is no calibration {what}in {data_dir}",
            remedy="Name the server's data folder with --data-dir, or run "
            "`inspection detector calibrate`.",
        )
    now = datetime.now(UTC)
    if form == "json":
        echo_json([_as_json(each, now) for each in found])
        return
    for n, each in enumerate(found):
        if n:
            click.echo()
        _show(each, now)


def _show(standing: Standing, now: datetime) -> None:
    obstacle, age_s = standing.obstacle(now), standing.age_s(now)
    click.echo(standing.station)
    if standing.calibration is not None and age_s is not None:
        echo_columns(
            [["  file", str(standing.file)], ["  age", f"{age_s / 3600:.1f} h"]]
            + [[f"  {name}", text] for name, text in _calibration_rows(standing.calibration)]
        )
    click.echo(f"  {'judges' if obstacle is None else f'does not judge: {obstacle[1]}'}")
    if standing.trend.checks:
        click.echo("  checks")
        echo_columns([["   ", *row] for row in _check_rows(standing.trend.checks[-SHOWN:])])


def _as_json(standing: Standing, now: datetime) -> dict[str, Any]:
    made, obstacle = standing.calibration, standing.obstacle(now)
    return {
        "station": standing.station,
        "judges": obstacle is None,
        "reason": None if obstacle is None else {"code": obstacle[0], "detail": obstacle[1]},
        "file": standing.file,
        "age_s": standing.age_s(now),
        "calibration": None if made is None else {"digest": made.flat.digest, **asdict(made.facts)},
        "limits": asdict(standing.limits),
        "checks": [{"fit": each.fit, **asdict(each)} for each in standing.trend.checks],
    }


def _calibration_rows(made: Calibration) -> list[list[str]]:
    facts, clusters = made.facts, made.facts.clusters
    height, width = made.flat.size_px
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts.bad.items() if count)
    tube = ", ".join(
        f"{value:g} {unit}"
        for value, unit in ((facts.kv, "kV"), (facts.ma, "mA"), (facts.exposure_ms, "ms"))
        if value is not None
    )
    return [
        ["detector", facts.detector or "not named by its files"],
        ["made", f"{facts.made_at}, holds for {facts.max_age_s / 3600:g} h"],
        ["digest", made.flat.digest],
        ["frames", f"{facts.dark_frames} dark, {facts.open_frames} open, {width} x {height}"],
        ["exposure", tube or "not named by its files"],
        ["open beam", f"{facts.open_level:.0f} grey levels, signal to noise {facts.snr:.0f}"],
        ["bad pixels", f"{int(made.flat.bad.sum())}" + (f" ({kinds})" if kinds else "")],
        ["clusters", f"{clusters.count}, the largest of {clusters.largest_px} pixels"],
        ["", f"{clusters.kernel_px} kernel pixels, {clusters.blind} blind squares"],
    ]


def _check_rows(checks: Sequence[Check]) -> list[list[str]]:
    rows = [["checked", "fit", "SNR", "bad", "new ppm", "offset %", "gain %", "lag %", "CS %"]]
    for each in checks:
        figures = each.figures
        rows.append(
            [
                each.checked_at,
                "yes" if each.fit else "NO",
                f"{figures.snr:.0f} ({figures.snr_ratio:.2f})",
                str(figures.bad_pixels),
                f"{figures.new_bad_ppm:.1f}",
                f"{figures.offset_drift_percent:.2f}",
                f"{figures.gain_drift_percent:.2f}",
                _or_dash(figures.lag_percent),
                _or_dash(figures.contrast_sensitivity_percent),
            ]
        )
    return rows


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


# --- common --------------------------------------------------------------------------------------


def _book_of(data_dir: Path, station: str) -> DetectorBook:
    if not station or len(station) > 200 or not station.isprintable():
        raise click.UsageError("--station is a name of 1 to 200 printable characters")
    return DetectorBook(data_dir / FOLDER)


def _both_series(dark_places: Sequence[str], open_places: Sequence[str]) -> tuple[Series, Series]:
    dark_files, open_files = files_at(dark_places, "dark"), files_at(open_places, "open")
    both = sorted(set(dark_files) & set(open_files))
    if both:
        raise DataError(
            f"{both[0]} is named as a dark frame and as an open one",
            remedy="Give two folders or patterns that share no file.",
        )
    dark = sum_up(read_frames(dark_files), kind="dark")
    return dark, sum_up(read_frames(open_files), kind="open", offset=dark.mean)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
