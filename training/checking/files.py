"""Files that cannot be read or were altered, and images that are unlike the others."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import ImageError
from inspection.frame import decode_image
from training.checking.findings import Case, Finding
from training.data.rows import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

WORKERS = 4
BLANK = 0.004  # of the depth's range: an image whose grey levels span less shows nothing
CLIPPED = 0.20  # share of pixels at the end of the range, above what is usual in the set
UNUSUAL = 8.0  # deviations from the set's median exposure, by the median absolute deviation
DARKER = 0.12  # and at least this share of the depth's range away from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one file is.

    Attributes:
        fault: why it cannot be read; None when it can. The rest holds only then.
        altered: whether its bytes are not those that were imported.
        kind: (bits, channels, height, width).
        span: from the 0.5 to the 99.5 percentile of the grey levels, as a share of the range.
        mean: grey level as a share of the range.
        dark, light: shares of pixels at the lowest and at the highest grey level possible.
    """

    fault: str | None = None
    altered: bool = False
    kind: tuple[int, int, int, int] = (8, 1, 0, 0)
    span: float = 0.0
    mean: float = 0.0
    dark: float = 0.0
    light: float = 0.0


def look_at_files(manifest: Manifest, progress: Progress) -> tuple[Look, ...]:
    """Read and decode every file once, in threads."""
    looks = []
    total = len(manifest.rows)
    progress("read images", 0, total)
    with ThreadPoolExecutor(WORKERS) as pool:
        rows = range(total)
        for done, look in enumerate(pool.map(lambda row: _look_at(manifest, row), rows), start=1):
            looks.append(look)
            progress("read images", done, total)
    return tuple(looks)


def _look_at(manifest: Manifest, number: int) -> Look:
    row = manifest.rows[number]
    try:
        frame = decode_image(manifest.file(row).read_bytes())
    except OSError as error:
        return Look(fault=error.strerror or str(error))
    except ImageError as error:
        return Look(fault=str(error))
    pixels = frame.pixels
    top = 2**frame.bits - 1
    low, high = np.percentile(pixels[::2, ::2], (0.5, 99.5))
    return Look(
        altered=frame.sha256 != row.sha256,
        kind=(frame.bits, frame.channels, *frame.size_px),
        span=float(high - low) / top,
        mean=float(pixels.mean()) / top,
        dark=float((pixels == 0).mean()),
        light=float((pixels == top).mean()),
    )


def find_broken(looks: Sequence[Look]) -> list[Finding]:
    """Files that cannot be read, and files that are not what was imported."""
    findings = []
    unreadable = [Case(rows=(i,), said=look.fault) for i, look in enumerate(looks) if look.fault]
    if unreadable:
        findings.append(
            Finding(
                severity="error",
                code="unreadable",
                text=f"{counted(len(unreadable), 'file')} cannot be read; training would stop.",
                remedy="Copy them again from where they come from, or exclude them.",
                cases=tuple(unreadable),
            )
        )
    altered = [
        Case(rows=(i,), said="its bytes are not those that were imported")
        for i, look in enumerate(looks)
        if look.altered
    ]
    if altered:
        findings.append(
            Finding(
                severity="error",
                code="altered",
                text=f"{counted(len(altered), 'file')} changed since the import.",
                remedy="Bring the files back, or import the source again.",
                cases=tuple(altered),
            )
        )
    return findings


def find_outliers(manifest: Manifest, looks: Sequence[Look]) -> list[Finding]:
    """Images of another depth, size or exposure than the set's, and images that show nothing."""
    sound = [i for i, look in enumerate(looks) if not look.fault]
    findings = [*_of_another_kind(manifest, looks, sound), *_blank(looks, sound)]
    seen = [i for i in sound if looks[i].span > BLANK]
    if len(seen) >= 8:  # of fewer, nothing is usual
        findings += _exposed_otherwise(looks, seen)
    return findings


def _of_another_kind(
    manifest: Manifest, looks: Sequence[Look], sound: Sequence[int]
) -> list[Finding]:
    findings = []
    wanted = (manifest.images.bits, manifest.images.channels)
    depth = [
        Case(rows=(i,), said=f"{looks[i].kind[0]} bits, {looks[i].kind[1]} channels")
        for i in sound
        if looks[i].kind[:2] != wanted
    ]
    if depth:
        findings.append(
            Finding(
                severity="error",
                code="other-depth",
                text=f"{counted(len(depth), 'image')} of another depth or colour than the set's "
                f"{wanted[0]} bits, {wanted[1]} channels.",
                remedy="A recipe judges one kind of image: take them out.",
                cases=tuple(depth),
            )
        )
    sizes = Counter(looks[i].kind[2:] for i in sound)
    if len(sizes) > 1:
        (usual, most), *_ = sizes.most_common()
        rare = sorted(
            (i for i in sound if sizes[looks[i].kind[2:]] <= 0.05 * len(sound)),
            key=lambda i: sizes[looks[i].kind[2:]],
        )
        if rare:
            cases = [
                Case(rows=(i,), said=f"{looks[i].kind[3]} x {looks[i].kind[2]} pixels")
                for i in rare
            ]
            findings.append(
                Finding(
                    severity="warning",
                    code="other-size",
                    text=f"{counted(len(rare), 'image')} of a rare size; {most} are "
                    f"{usual[1]} x {usual[0]} pixels.",
                    remedy="Find out whether they are crops or from another camera; a station that "
                    "sends one size only needs a set of that size.",
                    cases=tuple(cases),
                )
            )
    return findings


def _blank(looks: Sequence[Look], sound: Sequence[int]) -> list[Finding]:
    cases = tuple(
        Case(rows=(i,), said=f"every pixel lies at about {looks[i].mean:.0%} of the range")
        for i in sound
        if looks[i].span <= BLANK
    )
    if not cases:
        return []
    return [
        Finding(
            severity="error",
            code="blank",
            text=f"{counted(len(cases), 'image')} that show nothing: one grey level all over.",
            remedy="Exclude them: a blank image with a label teaches the label of nothing.",
            cases=cases,
        )
    ]


def _exposed_otherwise(looks: Sequence[Look], seen: Sequence[int]) -> list[Finding]:
    mean = np.array([looks[i].mean for i in seen])
    middle = float(np.median(mean))
    spread = 1.4826 * float(np.median(np.abs(mean - middle))) + 0.01
    clipped = np.array([max(looks[i].dark, looks[i].light) for i in seen])
    usual = float(np.median(clipped))
    found: list[tuple[float, Case]] = []
    for i, level, share in zip(seen, mean.tolist(), clipped.tolist(), strict=True):
        away = abs(level - middle)
        if share > usual + CLIPPED:
            where = "black" if looks[i].dark > looks[i].light else "saturated"
            said = f"{share:.0%} of its pixels are {where}"
            found.append((10 + share, Case(rows=(i,), said=said)))
        elif away > UNUSUAL * spread and away > DARKER:
            how = "dark" if level < middle else "bright"
            said = f"{how}: its mean is {level:.0%} of the range, usually {middle:.0%}"
            found.append((away, Case(rows=(i,), said=said)))
    if not found:
        return []
    found.sort(key=lambda each: -each[0])
    return [
        Finding(
            severity="warning",
            code="exposure",
            text=f"{counted(len(found), 'image')} exposed quite unlike the others.",
            remedy="Look whether they can be judged at all; exclude those that cannot. If stations "
            "do send such images, more of them are needed.",
            cases=tuple(case for _, case in found),
        )
    ]
