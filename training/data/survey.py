"""Looking at every image and mask of a source once, before anything is written."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from inspection.errors import DataError, ImageError
from inspection.frame import decode_image
from training.data.facts import ImageFacts
from training.data.regions import polygon_mask, read_mask
from training.data.rows import GOOD, counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from training.sources import Labelled, LabelledFile, LabelledRegion

    Progress = Callable[[str, int, int], None]

WORKERS = 4
OUTLIER_SHARE = 0.02  # a size that so few images have is worth a look


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the images of a source are. Sizes are (height, width) in pixels.

    Attributes:
        sha256: of each file, in the source's order.
        mask_sha256: of each file's regions, in order; None for a polygon.
        sizes: how many images have which size, the commonest first.
        odd_sizes: names of images of a size that few have.
        grey_range: lowest and highest grey level that occurs.
        duplicates: names of files with the same bytes, a tuple for each set of them.
    """

    sha256: tuple[str, ...]
    mask_sha256: tuple[tuple[str | None, ...], ...]
    bits: Literal[8, 16]
    channels: Literal[1, 3]
    sizes: tuple[tuple[tuple[int, int], int], ...]
    odd_sizes: tuple[str, ...]
    grey_range: tuple[int, int]
    duplicates: tuple[tuple[str, ...], ...]

    @property
    def facts(self) -> ImageFacts:
        """The same as the manifest keeps it."""
        return ImageFacts(
            bits=self.bits,
            channels=self.channels,
            grey_range=self.grey_range,
            frame_size_px=self.sizes[0][0] if len(self.sizes) == 1 else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One image, decoded."""

    sha256: str
    bits: int
    channels: int
    size_px: tuple[int, int]
    low: int
    high: int
    mask_sha256: tuple[str | None, ...]
    misfits: tuple[str, ...]


def survey(labelled: Labelled, progress: Progress) -> Survey:
    """Decode every image and mask once.

    Raises:
        DataError: some cannot be decoded (all are listed together), depth or channels differ,
            masks or polygons do not fit their images, or the same image is called good and bad.
    """
    seen: list[_Seen] = []
    unreadable: list[str] = []
    total = len(labelled.files)
    progress("read images", 0, total)
    with ThreadPoolExecutor(WORKERS) as pool:
        for done, found in enumerate(pool.map(_look_at, labelled.files), start=1):
            if isinstance(found, str):
                unreadable.append(found)
            else:
                seen.append(found)
            progress("read images", done, total)
    if unreadable:
        raise DataError(
            f"{len(unreadable)} of {total} images cannot be read: {listed(unreadable)}",
            remedy="Copy these files again from where they come from, or take them out.",
        )
    misfits = [misfit for each in seen for misfit in each.misfits]
    if misfits:
        raise DataError(
            f"{counted(len(misfits), 'region')} that cannot be: {listed(misfits)}",
            remedy="Correct these labels or masks, or take them out.",
        )
    kinds = Counter((each.bits, each.channels) for each in seen)
    if len(kinds) > 1:
        what = ", ".join(f"{n} of {b} bits, {colour(c)}" for (b, c), n in kinds.most_common())
        raise DataError(
            f"the images are not of one kind: {what}; {_odd_one(labelled, seen, kinds)}",
            remedy="A recipe judges one depth and one kind of pixel: import them as two sets.",
        )
    same: dict[str, list[LabelledFile]] = {}
    for file, each in zip(labelled.files, seen, strict=True):
        same.setdefault(each.sha256, []).append(file)
    _refuse_contradictions(same.values())
    sizes = Counter(each.size_px for each in seen)
    rare = {size for size, count in sizes.items() if count <= OUTLIER_SHARE * total}
    return Survey(
        sha256=tuple(each.sha256 for each in seen),
        mask_sha256=tuple(each.mask_sha256 for each in seen),
        bits=16 if seen[0].bits == 16 else 8,
        channels=3 if seen[0].channels == 3 else 1,
        sizes=tuple(sizes.most_common()),
        odd_sizes=tuple(
            file.name
            for file, each in zip(labelled.files, seen, strict=True)
            if each.size_px in rare
        ),
        grey_range=(min(each.low for each in seen), max(each.high for each in seen)),
        duplicates=tuple(
            tuple(file.name for file in files) for files in same.values() if len(files) > 1
        ),
    )


def colour(channels: int) -> str:
    """What an image of so many channels is called."""
    return "grey" if channels == 1 else "colour"


def _look_at(file: LabelledFile) -> _Seen | str:
    """What the image is, or why it cannot be read, in words."""
    try:
        frame = decode_image(file.file.read_bytes())
    except (ImageError, OSError) as error:
        return f"{file.name} ({error})"
    misfits = []
    if file.size_px not in (None, frame.size_px):
        misfits.append(
            f"{file.name} is {_size(frame.size_px)} pixels, its source says {_size(file.size_px)}"
        )
    digests: list[str | None] = []
    for region in file.regions:
        try:
            digests.append(_check_region(region, frame.size_px))
        except (DataError, ImageError, OSError) as error:
            misfits.append(f"{region.defect} of {file.name}: {error}")
    for path in file.empty_masks:
        try:
            if read_mask(path.read_bytes()).any():
                misfits.append(f"{path} marks a defect, but {file.name} is {file.label}")
        except (ImageError, OSError) as error:
            misfits.append(f"{path} ({error})")
    return _Seen(
        sha256=frame.sha256,
        bits=frame.bits,
        channels=frame.channels,
        size_px=frame.size_px,
        low=int(frame.pixels.min()),
        high=int(frame.pixels.max()),
        mask_sha256=tuple(digests),
        misfits=tuple(misfits),
    )


def _check_region(region: LabelledRegion, size_px: tuple[int, int]) -> str | None:
    """The digest of a region's mask; None for a polygon."""
    if region.mask is None:
        if not polygon_mask(region.polygon, size_px).any():
            raise DataError(f"its polygon lies outside the image of {_size(size_px)} pixels")
        return None
    data = region.mask.read_bytes() if isinstance(region.mask, Path) else region.mask
    mask = read_mask(data)
    if mask.shape != size_px:
        shape = int(mask.shape[0]), int(mask.shape[1])
        raise DataError(
            f"its mask {region.name} is {_size(shape)} pixels, the image {_size(size_px)}"
        )
    if not mask.any():
        raise DataError(f"its mask {region.name} marks nothing: all values are 0")
    return sha256(data).hexdigest()


def _refuse_contradictions(same: Iterable[Sequence[LabelledFile]]) -> None:
    pairs = []
    for files in same:
        good = [file for file in files if file.label == GOOD]
        bad = [file for file in files if file.label != GOOD]
        if good and bad:
            pairs.append(f"{good[0].name} (good) = {bad[0].name} ({bad[0].label})")
    if pairs:
        raise DataError(
            f"{counted(len(pairs), 'image')} under contradictory labels, byte for byte the same: "
            f"{listed(pairs)}",
            remedy="Find out which label is right, and take the other file out.",
        )


def _odd_one(labelled: Labelled, seen: Sequence[_Seen], kinds: Counter[tuple[int, int]]) -> str:
    """Names images of the rarest kind."""
    rarest = min(kinds, key=lambda kind: kinds[kind])
    names = [
        file.name
        for file, each in zip(labelled.files, seen, strict=True)
        if (each.bits, each.channels) == rarest
    ]
    return f"of {rarest[0]} bits, {colour(rarest[1])}: {listed(names)}"


def _size(size_px: tuple[int, int] | None) -> str:
    return "unknown" if size_px is None else f"{size_px[1]} x {size_px[0]}"
