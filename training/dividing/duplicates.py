"""Images that are one exposure twice: byte for byte, or re-encoded, rescaled, slightly processed.

    decode -> hash and fingerprint -> candidates: nearest neighbours -> same exposure? -> pairs

The hash is 256 bits that fit into a table and can be compared from one set to another. The
fingerprint is a small image of the details, less what all images of the set have in common: of a
thousand castings from one mould it leaves what is this one's own. It proposes candidates; the
pixels decide (`training/dividing/same_exposure.py`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from inspection.errors import DataError, ImageError
from inspection.frame import decode_image
from training.data.facts import flat_field_in
from training.data.rows import listed
from training.dividing.same_exposure import band, likeness, working_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.detector.flat_field import FlatField
    from training.manifest import Manifest

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]

Progress = Callable[[str, int, int], None]
METHOD = 3  # goes up whenever the pairs or the hashes may come out otherwise: the cache follows
HASH_BITS = 256
FINGERPRINT_PX = 64
NEIGHBOURS = 3  # candidates of each image
PROPOSED = 0.6  # cosine of two fingerprints, from which on they are candidates
FEW = 6  # images; the mean of fewer is not what they have in common
CLEAR = 0.3  # response of a phase correlation, from which on it is believed
MOVED_PX = 3.0  # in the fingerprint
COMMON = 8  # main directions of a set that are no image's own
SAMPLE = 600  # images that the directions are found from
BLOCK = 512  # fingerprints compared at once: bounds the memory
WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two rows of a manifest that show one exposure.

    Attributes:
        first, second: row numbers; first < second.
        kind: "exact" when the files are equal byte for byte.
        distance: bits in which the perceptual hashes differ, of 256; 0 for exact.
    """

    first: int
    second: int
    kind: Literal["exact", "near"]
    distance: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.second:
            raise DataError(f"rows {self.first} and {self.second} are no pair")
        if self.kind == "exact" and self.distance:
            raise DataError("equal files have equal hashes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Likenesses:
    """What is known of a set's duplicates.

    Attributes:
        hashes: of each row, `perceptual_hash`; None where the file cannot be read.
        pairs: exact and near ones, in row order.
    """

    hashes: tuple[int | None, ...]
    pairs: tuple[Pair, ...]


def perceptual_hash(pixels: Pixels) -> int:
    """256 bits that stay nearly the same when an image is re-encoded, rescaled or exposed anew.

    Signs of the 16 x 16 lowest frequencies of the image at 64 x 64 pixels (discrete cosine
    transform), against their median: no gain and no offset alters them.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or uint16.
    """
    return _hash(working_grey(pixels))


def near_duplicates(manifest: Manifest, *, progress: Progress | None = None) -> tuple[Pair, ...]:
    """Every pair of rows that is one exposure twice, exact ones too, in row order.

    Of several equal files, each is paired with the first. The result is kept beside the set, under
    its digest and this method's number.

    Args:
        manifest: the set, with its images.
        progress: called as ("duplicates", done, total).

    Raises:
        DataError: an image is gone or cannot be read.
    """
    return _complete(manifest, progress).pairs


def perceptual_hashes(manifest: Manifest, *, progress: Progress | None = None) -> tuple[int, ...]:
    """`perceptual_hash` of every row; found and kept together with `near_duplicates`.

    Raises:
        DataError: an image is gone or cannot be read.
    """
    return tuple(value for value in _complete(manifest, progress).hashes if value is not None)


def find_likenesses(manifest: Manifest, progress: Progress | None = None) -> Likenesses:
    """Hashes and pairs of the images that can be read; from the cache, where it holds."""
    kept = _read_cache(manifest)
    if kept is not None:
        return kept
    told = progress or (lambda _stage, _done, _total: None)
    count = len(manifest.rows)
    exact = _equal_files(manifest)
    copies = {pair.second for pair in exact}
    hashes: list[int | None] = [None] * count
    prints = np.zeros((count, FINGERPRINT_PX**2), dtype=np.float32)
    flat = _flat_of(manifest)
    told("duplicates", 0, count)
    with ThreadPoolExecutor(WORKERS) as pool:
        for row, found in enumerate(pool.map(lambda i: _look_at(manifest, i, flat), range(count))):
            if found is not None:
                hashes[row], prints[row] = found
            told("duplicates", row + 1, count)
        candidates = _candidates(prints, copies)
        near = _confirmed(manifest, candidates, hashes, flat, pool, told)
    pairs = tuple(sorted((*exact, *near), key=lambda pair: (pair.first, pair.second)))
    found_all = Likenesses(hashes=tuple(hashes), pairs=pairs)
    if None not in hashes:
        _write_cache(manifest, found_all)
    return found_all


def _complete(manifest: Manifest, progress: Progress | None) -> Likenesses:
    found = find_likenesses(manifest, progress)
    unreadable = [
        row.path for row, value in zip(manifest.rows, found.hashes, strict=True) if value is None
    ]
    if unreadable:
        raise DataError(
            f"{len(unreadable)} images cannot be read: {listed(unreadable)}",
            remedy="Copy these files again from where they come from; "
            f"`inspection data check {manifest.name}` says what is wrong with each.",
        )
    return found


def _equal_files(manifest: Manifest) -> list[Pair]:
    seen: dict[str, int] = {}
    pairs = []
    for row, each in enumerate(manifest.rows):
        first = seen.setdefault(each.sha256, row)
        if first != row:
            pairs.append(Pair(first=first, second=row, kind="exact", distance=0))
    return pairs


def _flat_of(manifest: Manifest) -> FlatField | None:
    """What takes the detector's own pattern away: all its images share that, copies or not."""
    taken_with = manifest.calibration
    if taken_with is None:
        return None
    return flat_field_in(manifest.folder, taken_with, manifest.name)


def _grey_of(path: Path, flat: FlatField | None) -> NDArray[np.float32] | None:
    try:
        frame = decode_image(path.read_bytes())
    except (ImageError, OSError):
        return None
    if flat is None or frame.size_px != flat.size_px or frame.channels != 1:
        return working_grey(frame.pixels)
    return working_grey(flat.corrected(frame.pixels))


def _look_at(
    manifest: Manifest, row: int, flat: FlatField | None
) -> tuple[int, NDArray[np.float32]] | None:
    """A row's hash and fingerprint; None when its file cannot be read."""
    grey = _grey_of(manifest.file(manifest.rows[row]), flat)
    return None if grey is None else (_hash(grey), _fingerprint(grey))


def _small(grey: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    shrinks = min(grey.shape) >= size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, (size, size), interpolation=method), dtype=np.float32)


def _hash(grey: NDArray[np.float32]) -> int:
    waves = cv2.dct(_small(grey, FINGERPRINT_PX))[:16, :16].ravel()
    waves[0] = 0  # the mean grey level is exposure
    bits = waves > np.median(waves)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _fingerprint(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(4096,) the details at 64 x 64 pixels, equally strong everywhere; 0 for a blank image."""
    details = band(_small(grey, FINGERPRINT_PX), (1.0, 3.0))
    strength = np.sqrt(cv2.GaussianBlur(details**2, (0, 0), 6.0))
    level = float(strength.mean())
    if level == 0:
        return np.zeros(FINGERPRINT_PX**2, dtype=np.float32)
    return np.asarray(details / (strength + 0.05 * level), dtype=np.float32).ravel()


def _candidates(prints: NDArray[np.float32], left_out: set[int]) -> list[tuple[int, int]]:
    """Pairs of rows to be looked at closely: each row's nearest neighbours."""
    rows = np.array(
        [row for row in range(len(prints)) if row not in left_out and prints[row].any()],
        dtype=np.int64,
    )
    if len(rows) < 2:
        return []
    own = prints[rows]
    views = [own]
    if len(rows) >= 2 * FEW:
        moved = _in_one_place(own)
        views = [_own_details(own), moved - moved.mean(axis=0)]
    elif len(rows) >= FEW:
        views = [own - own.mean(axis=0)]
    found: set[tuple[int, int]] = set()
    for view in views:
        found |= _neighbours(view, rows)
    return sorted(found)


def _neighbours(view: NDArray[np.float32], rows: NDArray[np.int64]) -> set[tuple[int, int]]:
    """Each row with the few rows whose fingerprints point most nearly its way."""
    length = np.linalg.norm(view, axis=1, keepdims=True)
    own = view / np.maximum(length, 1e-6 * float(length.max()) + 1e-12)
    found: set[tuple[int, int]] = set()
    nearest = min(NEIGHBOURS, len(rows) - 1)
    for start in range(0, len(rows), BLOCK):
        alike = own[start : start + BLOCK] @ own.T
        here = np.arange(len(alike))
        alike[here, here + start] = -1
        best = np.argpartition(-alike, nearest - 1, axis=1)[:, :nearest]
        close = np.take_along_axis(alike, best, axis=1) >= PROPOSED
        for i, j in zip(*np.nonzero(close), strict=True):
            pair = (int(rows[start + i]), int(rows[best[i, j]]))
            found.add((min(pair), max(pair)))
    return found


def _in_one_place(prints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move each fingerprint onto the mean of all, where it clearly has a place in it."""
    shape = (FINGERPRINT_PX, FINGERPRINT_PX)
    window = cv2.createHanningWindow(shape, cv2.CV_32F)
    middle = prints.mean(axis=0).reshape(shape)
    moved = prints.copy()
    for each in moved:
        details = each.reshape(shape)
        (right, down), clear = cv2.phaseCorrelate(middle, details, window)
        if clear >= CLEAR and max(abs(right), abs(down)) <= MOVED_PX:
            shift = np.array([[1, 0, -right], [0, 1, -down]], dtype=np.float32)
            details[:] = cv2.warpAffine(
                details, shift, shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
    return moved


def _own_details(prints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fingerprints less what the set has in common: its mean, and its few main directions.

    Parts of one mould lie a little differently in each image; to first order these moves are main
    directions of the set, and would outshine what is an image's own.
    """
    own = prints - prints.mean(axis=0)
    some = own[:: max(1, len(own) // SAMPLE)].astype(np.float64)
    count = min(COMMON, len(own) // FEW)
    values, vectors = np.linalg.eigh(some @ some.T)
    if values[-1] <= 0:
        return np.asarray(own)
    main = some.T @ vectors[:, -count:] / np.sqrt(np.maximum(values[-count:], 1e-9 * values[-1]))
    directions = main.astype(np.float32)
    return np.asarray(own - (own @ directions) @ directions.T, dtype=np.float32)


def _confirmed(
    manifest: Manifest,
    candidates: Sequence[tuple[int, int]],
    hashes: Sequence[int | None],
    flat: FlatField | None,
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> list[Pair]:
    """Those of the candidates that are one exposure."""

    @lru_cache(maxsize=64)
    def grey(row: int) -> NDArray[np.float32] | None:
        return _grey_of(manifest.file(manifest.rows[row]), flat)

    def look(pair: tuple[int, int]) -> bool:
        one, other = grey(pair[0]), grey(pair[1])
        return one is not None and other is not None and likeness(one, other).same_exposure

    pairs = []
    total = len(candidates)
    progress("compare look-alikes", 0, total)
    for done, (pair, same) in enumerate(zip(candidates, pool.map(look, candidates), strict=True)):
        progress("compare look-alikes", done + 1, total)
        first, second = hashes[pair[0]], hashes[pair[1]]
        if same and first is not None and second is not None:
            distance = (first ^ second).bit_count()
            pairs.append(Pair(first=pair[0], second=pair[1], kind="near", distance=distance))
    return pairs


def _cache_file(manifest: Manifest) -> Path:
    return manifest.revision_folder / f"duplicates-{METHOD}.json"


def _read_cache(manifest: Manifest) -> Likenesses | None:
    try:
        document = json.loads(_cache_file(manifest).read_text(encoding="utf-8"))
        if document["digest"] != manifest.digest:
            return None
        hashes = tuple(int(text, 16) for text in document["hashes"])
        pairs = tuple(
            Pair(first=first, second=second, kind=kind, distance=distance)
            for first, second, kind, distance in document["pairs"]
        )
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None  # made again
    if len(hashes) != len(manifest.rows) or any(pair.second >= len(hashes) for pair in pairs):
        return None
    return Likenesses(hashes=hashes, pairs=pairs)


def _write_cache(manifest: Manifest, found: Likenesses) -> None:
    """Keep the result; a folder that cannot be written to only costs the time again."""
    document = {
        "digest": manifest.digest,
        "method": METHOD,
        "hashes": [f"{value:064x}" for value in found.hashes if value is not None],
        "pairs": [[each.first, each.second, each.kind, each.distance] for each in found.pairs],
    }
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=".duplicates-", dir=_cache_file(manifest).parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file)
            Path(name).replace(_cache_file(manifest))
        except OSError:
            Path(name).unlink(missing_ok=True)
