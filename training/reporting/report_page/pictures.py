"""The images that a report shows: samples of the set, and parts with the evidence on them.

rows, verdicts, predictions -> which are worth showing -> decode, window, shrink -> JPEG
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from inspection.errors import DataError, ImageError
from inspection.frame import decode_image
from inspection.heatmap import overlay_png
from inspection.recipe import Region
from inspection.verdict import decide
from training.data.rows import GOOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from inspection.frame import Frame
    from inspection.package import PackageDocument
    from inspection.recipe import Recipe
    from training.evaluate import PartResult, Predicted
    from training.manifest import Manifest

Kind = Literal["escape", "overkill", "near escape", "found", "passed"]
KINDS: tuple[Kind, ...] = ("escape", "overkill", "near escape", "found", "passed")
WANTED: dict[Kind, int] = {"escape": 6, "overkill": 6, "near escape": 4, "found": 4, "passed": 4}
SAMPLES = 12  # of all classes together, at least two a class
LONGEST_PX = 300
SAMPLE_PX = 160
QUALITY = 82  # of JPEG: half of PNG's size at a tenth of a visible difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An image of the set as it was imported; `jpeg` is windowed for the eye."""

    label: str
    part: str
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A test part and what was decided on it.

    Attributes:
        kind: why it is shown.
        path: of the image shown: of a part's images the one that decided.
        probabilities: a class each, of that image.
        plain, evidence: JPEG; the image, and the same with the evidence map and the findings.
    """

    kind: Kind
    part: str
    group: str
    path: str
    label: str
    disposition: str
    probabilities: dict[str, float]
    novelty: float
    plain: bytes
    evidence: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What the page shows besides figures; empty when the images are not at hand.

    Attributes:
        left_out: how many parts of a kind there are beyond those shown.
    """

    samples: tuple[Sample, ...] = ()
    examples: tuple[Example, ...] = ()
    left_out: dict[Kind, int] = field(default_factory=dict)


def take_pictures(
    manifest: Manifest,
    recipe: Recipe,
    document: PackageDocument,
    predicted: Predicted,
    parts: Sequence[PartResult],
    *,
    fit_rows: NDArray[np.int64],
) -> Pictures:
    """Samples of the images to fit on, and the test parts that a person should look at.

    Args:
        manifest: the set.
        recipe: the package's.
        document: its calibration and limits.
        predicted: the engine's answers for the test rows.
        parts: what was decided on the same rows.
        fit_rows: (n,) row numbers that samples are taken from.

    Raises:
        DataError: an image is gone or cannot be read.
    """
    of_part: dict[str, list[int]] = {}
    for place, number in enumerate(predicted.rows.tolist()):
        of_part.setdefault(manifest.rows[number].part, []).append(place)
    chosen, left_out = choose_examples(parts)
    probabilities = document.calibration.probabilities(predicted.scores).max(axis=1)
    examples = []
    for kind, part in chosen:
        deciding = max(of_part[part.part], key=lambda place: float(probabilities[place]))
        examples.append(_example(kind, part, manifest, recipe, document, predicted, deciding))
    return Pictures(
        samples=tuple(_sample(manifest, number) for number in choose_samples(manifest, fit_rows)),
        examples=tuple(examples),
        left_out=left_out,
    )


def choose_examples(
    parts: Sequence[PartResult],
) -> tuple[list[tuple[Kind, PartResult]], dict[Kind, int]]:
    """The parts worth looking at, worst first, and how many of each kind are left out.

    Escapes by the lowest probability, overkill by the highest; bad parts that came nearest to
    escaping; and of those judged rightly some from all along the scale, not the best ones.
    """

    def height(part: PartResult) -> tuple[float, str]:
        return max(part.probabilities), part.part

    ordered = sorted(parts, key=height)
    bad = [part for part in ordered if part.bad]
    good = [part for part in ordered if not part.bad]
    of_kind: dict[Kind, list[PartResult]] = {
        "escape": [part for part in bad if part.disposition == "pass"],
        "overkill": [part for part in reversed(good) if part.disposition == "fail"],
        "near escape": [part for part in bad if part.disposition == "review"],
        "found": [part for part in bad if part.disposition == "fail"],
        "passed": [part for part in good if part.disposition == "pass"],
    }
    chosen: list[tuple[Kind, PartResult]] = []
    left_out: dict[Kind, int] = {}
    for kind in KINDS:
        there, wanted = of_kind[kind], WANTED[kind]
        if kind in ("found", "passed") and len(there) > wanted:
            picked = [there[i] for i in np.linspace(0, len(there) - 1, wanted).round().astype(int)]
        else:
            picked = there[:wanted]
        chosen += [(kind, part) for part in picked]
        left_out[kind] = len(there) - len(picked)
    return chosen, left_out


def choose_samples(manifest: Manifest, rows: Iterable[int]) -> list[int]:
    """Row numbers from all along the set, as many of every class; of different parts."""
    of_label: dict[str, dict[str, int]] = {name: {} for name in (GOOD, *manifest.classes)}
    for number in rows:
        row = manifest.rows[number]
        for name in row.defects or (GOOD,):
            of_label.setdefault(name, {}).setdefault(row.part, int(number))
    each = max(2, SAMPLES // len(of_label))
    chosen: list[int] = []
    for there in of_label.values():
        numbers = [number for number in there.values() if number not in chosen]
        count = min(each, len(numbers))
        chosen += [numbers[i] for i in np.linspace(0, len(numbers) - 1, count).round().astype(int)]
    return chosen


def _example(
    kind: Kind,
    part: PartResult,
    manifest: Manifest,
    recipe: Recipe,
    document: PackageDocument,
    predicted: Predicted,
    place: int,
) -> Example:
    row = manifest.rows[int(predicted.rows[place])]
    prediction = predicted.predictions[place]
    frame = _frame(manifest, int(predicted.rows[place]))
    verdict = decide(
        prediction, document.calibration, document.operating_point, recipe, frame.size_px
    )
    judged = recipe.judged_region(frame.size_px)
    local = document.calibration.local(prediction.evidence).max(axis=0)
    boxes = [finding.region for finding in verdict.findings]
    marked = overlay_png(
        frame, local, judged, boxes=boxes, display=recipe.display, longest_px=LONGEST_PX
    )
    return Example(
        kind=kind,
        part=part.part,
        group=part.group,
        path=row.path,
        label=part.label,
        disposition=part.disposition,
        probabilities=dict(verdict.probability),
        novelty=prediction.novelty,
        plain=_plain(frame, LONGEST_PX),
        evidence=_jpeg(marked),
    )


def _sample(manifest: Manifest, number: int) -> Sample:
    row = manifest.rows[number]
    return Sample(label=row.label, part=row.part, jpeg=_plain(_frame(manifest, number), SAMPLE_PX))


def _frame(manifest: Manifest, number: int) -> Frame:
    path = manifest.file(manifest.rows[number])
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except ImageError as error:
        raise DataError(f"{path} cannot be read: {error}", remedy=error.remedy) from error


def _plain(frame: Frame, longest_px: int) -> bytes:
    """The image alone, windowed as the overlay is."""
    height, width = frame.size_px
    whole = Region(top=0, left=0, height=height, width=width)
    return _jpeg(overlay_png(frame, np.zeros((1, 1)), whole, alpha=0, longest_px=longest_px))


def _jpeg(png: bytes) -> bytes:
    pixels = np.asarray(cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_COLOR))
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise DataError("a picture for the report could not be encoded")
    return bytes(data)
