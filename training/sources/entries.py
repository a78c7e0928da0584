"""What a line of a table, a line of JSON or an image of COCO says of one file.

Entry (fields by name)  ->  several annotators about one path become votes  ->  LabelledFile
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from inspection.errors import DataError
from training.data.rows import FIELDS, GOOD, Vote, check_label, defects_of, listed, of_votes
from training.sources import (
    Labelled,
    LabelledFile,
    LabelledRegion,
    classes_of,
    refuse_shared_parts,
)
from training.sources.naming import Naming, refuse_unnamed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KNOWN = ("part", "group", "probability", *FIELDS)  # what may be said of an image, beside its label


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a source.

    Attributes:
        where: the line, for messages.
        path: as the source writes it, relative to the source's folder.
        label: "good", or defect classes joined by ";".
        fields: what else is said, by the names in `KNOWN`.
    """

    where: str
    path: str
    label: str
    fields: Mapping[str, str]
    regions: tuple[LabelledRegion, ...] = ()
    size_px: tuple[int, int] | None = None


def labelled_entries(
    entries: Sequence[Entry],
    *,
    folder: Path,
    layout: str,
    naming: Naming,
    remedy: str,
    notes: tuple[str, ...] = (),
    elsewhere: str = "",
) -> Labelled:
    """The source that these entries make up.

    Args:
        entries: at least one.
        folder: where paths begin.
        layout: what kind of source it is, in words.
        naming: for entries that name no part or no group.
        remedy: how the source can name the part.
        notes: to be told beside those about parts and groups.
        elsewhere: how to say that files lie elsewhere, to follow a sentence.

    Raises:
        DataError: a file is missing, or entries contradict themselves or each other.
    """
    by_path: dict[str, list[tuple[Entry, LabelledFile]]] = {}
    for entry in entries:
        file = _file(entry, folder, naming)
        by_path.setdefault(file.name, []).append((entry, file))
    files = [_merged(each) for each in by_path.values()]
    missing = [file.name for file in files if not _is_file(file.file)]
    if missing:
        raise DataError(
            f"{layout} names {len(missing)} files that are not there: {listed(missing)}",
            remedy=f"Paths are relative to {folder}.{elsewhere}",
        )
    refuse_unnamed(files)
    if naming.part_from is None:
        named = [bool(each[0][0].fields.get("part")) for each in by_path.values()]
        refuse_shared_parts(files, named=named, remedy=remedy)
    said = {name for entry in entries for name in entry.fields}
    how = [
        f"{name}: as the source says" if name in said else note
        for name, note in zip(("part", "group"), naming.notes, strict=True)
    ]
    voted = [file for file in files if file.votes]
    if voted:
        split = sum(file.probability not in (0, 1) for file in voted)
        how.append(f"votes: {len(voted)} images, on {split} of them not unanimous")
    return Labelled(
        layout=layout,
        files=tuple(files),
        classes=classes_of(files),
        notes=(*how, *notes),
    )


def _file(entry: Entry, folder: Path, naming: Naming) -> LabelledFile:
    path = PurePosixPath(entry.path.replace("\\", "/"))
    name = str(path)
    fields = entry.fields
    part = fields.get("part") or naming.part(name) or ""
    found = naming.group(name) if naming.group_from is not None else part
    try:
        label = ";".join(sorted(each.strip() for each in entry.label.split(";")))
        check_label(label)
        text = fields.get("probability")
        return LabelledFile(
            file=folder / path,
            name=name,
            label=label,
            part=part,
            group=fields.get("group") or found or "",
            probability=None if text is None else float(text),
            regions=entry.regions,
            size_px=entry.size_px,
            lot=fields.get("lot"),
            mould=fields.get("mould"),
            captured_at=fields.get("captured_at"),
            station=fields.get("station"),
            view=fields.get("view"),
            annotator=fields.get("annotator"),
        )
    except (DataError, ValueError) as error:
        raise DataError(f"{entry.where}: {error}", remedy=getattr(error, "remedy", "")) from error


def _merged(lines: Sequence[tuple[Entry, LabelledFile]]) -> LabelledFile:
    """One file out of all lines about it: their votes, where there are several."""
    entry, first = lines[0]
    if len(lines) == 1:
        return first
    both = f"{entry.where} and {lines[1][0].where}"
    annotators = [file.annotator for _, file in lines]
    if None in annotators:
        raise DataError(
            f"{both} are both about {first.name}",
            remedy="Keep one of them; or name an `annotator` in each, and they become votes.",
        )
    if len(set(annotators)) < len(annotators):
        twice = next(name for name in annotators if annotators.count(name) > 1)
        raise DataError(
            f"{twice} is named twice about {first.name}, see {both}",
            remedy="Keep one label of every annotator for an image.",
        )
    for other, file in lines[1:]:
        if file.probability is not None or first.probability is not None:
            raise DataError(f"{other.where}: votes about {file.name} cannot have a probability")
        for field in ("part", "group", "lot", "mould", "captured_at", "station", "view", "size_px"):
            if getattr(file, field) != getattr(first, field):
                raise DataError(
                    f"{entry.where} and {other.where} say otherwise of {file.name}: {field} "
                    f"{getattr(first, field)!r} and {getattr(file, field)!r}"
                )
    votes = [Vote(annotator=file.annotator or "", label=file.label) for _, file in lines]
    label, probability = of_votes(votes)
    regions = [region for _, file in lines for region in file.regions]
    return replace(
        first,
        label=label,
        probability=probability,
        annotator=None,
        votes=tuple(votes),
        regions=tuple(r for r in regions if r.allowed or r.defect in defects_of(label)),
    )


def joined(labels: Sequence[str]) -> str:
    """A list of classes as a label; an empty list is good."""
    return ";".join(labels) if labels else GOOD


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, a byte that cannot be in one
        return False
