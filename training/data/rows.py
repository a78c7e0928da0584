"""A line of the manifest: one labelled image."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inspection.errors import DataError
from training.data.regions import DefectRegion, ordered_regions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

GOOD = "good"
COLUMNS = (
    "path",
    "sha256",
    "label",
    "part",
    "group",
    "probability",
    "lot",
    "mould",
    "captured_at",
    "station",
    "view",
    "annotator",
    "votes",
)
FORMER_COLUMNS = COLUMNS[:9]  # what the first release wrote
FIELDS = ("lot", "mould", "captured_at", "station", "view", "annotator")  # texts, all optional
SHOWN = 5  # how many offenders a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one annotator says of an image: "good", or defect classes joined by ";"."""

    annotator: str
    label: str

    def __post_init__(self) -> None:
        if not self.annotator or self.annotator.strip() != self.annotator:
            raise DataError(f"{self.annotator!r} cannot be an annotator's name")
        check_label(self.label)

    @property
    def defects(self) -> tuple[str, ...]:
        """The defect classes that the vote names, sorted; none for good."""
        return defects_of(self.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One labelled image.

    Attributes:
        path: relative to the data set's folder, with `/`.
        sha256: hex digest of the file.
        label: "good", or one or more defect classes joined by ";".
        part: the part that the image shows; several images may show one part.
        group: what this part shares its history with (lot, module); the part itself when unknown.
        probability: how sure the annotators are that the defect is there; 1 for a defect label
            and 0 for good when absent.
        lot, mould, captured_at, station, view: as the source gave them.
        annotator: who gave the label, when one person did.
        votes: when several did: `label` and `probability` are those of `of_votes`. In the order of
            the annotators' names.
        regions: where the defects are, in canonical order; may be left out. Of those that are
            `allowed` the label says nothing.
    """

    path: str
    sha256: str
    label: str
    part: str
    group: str
    probability: float | None = None
    lot: str | None = None
    mould: str | None = None
    captured_at: str | None = None
    station: str | None = None
    view: str | None = None
    annotator: str | None = None
    votes: tuple[Vote, ...] = ()
    regions: tuple[DefectRegion, ...] = ()

    def __post_init__(self) -> None:
        if not self.part or not self.group or not self.path:
            raise DataError(f"{self.path or 'a row'}: path, part and group cannot be empty")
        try:
            check_label(self.label)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error
        placed = {region.defect for region in self.marked}
        if placed - set(self.defects):
            raise DataError(
                f"{self.path}: the label {self.label!r} does not name the defect of a region: "
                f"{listed(sorted(placed - set(self.defects)))}"
            )
        object.__setattr__(self, "regions", ordered_regions(self.regions))
        self._check_votes()
        if self.probability is not None:
            if not 0 <= self.probability <= 1:
                raise DataError(f"{self.path}: probability {self.probability} is not in 0..1")
            if self.bad != (self.probability >= 0.5):
                raise DataError(
                    f"{self.path}: label {self.label!r} disagrees with probability "
                    f"{self.probability:g}: from one half on, the part is bad"
                )

    @property
    def marked(self) -> tuple[DefectRegion, ...]:
        """The regions for which the part is bad."""
        return tuple(region for region in self.regions if not region.allowed)

    def _check_votes(self) -> None:
        if not self.votes:
            return
        object.__setattr__(
            self, "votes", tuple(sorted(self.votes, key=lambda vote: vote.annotator))
        )
        names = [vote.annotator for vote in self.votes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{self.path}: {listed(twice)} voted more than once")
        label, probability = of_votes(self.votes)
        if (defects_of(label), probability) != (self.defects, self.probability):
            raise DataError(
                f"{self.path}: label {self.label!r} and probability {self.probability} are not "
                f"what the votes say: {label!r}, {probability:g}"
            )

    @property
    def bad(self) -> bool:
        """Whether the part should not pass."""
        return self.label != GOOD

    @property
    def defects(self) -> tuple[str, ...]:
        """The defect classes that the label names, sorted; none for good."""
        return defects_of(self.label)

    @property
    def certainty(self) -> float:
        """The soft label: the probability, or what the label alone says."""
        return self.probability if self.probability is not None else float(self.bad)


def defects_of(label: str) -> tuple[str, ...]:
    """The defect classes that a label names, sorted; none for good."""
    return () if label == GOOD else tuple(sorted(label.split(";")))


def check_label(label: str) -> None:
    """Refuse what is neither "good" nor a list of defect classes joined by ";".

    Raises:
        DataError: a name is empty, occurs twice, or good and bad are said at once.
    """
    names = label.split(";")
    if any(not name or name.strip() != name for name in names) or len(set(names)) < len(names):
        raise DataError(f"label {label!r} is not a list of classes")
    if GOOD in names and len(names) > 1:
        raise DataError(f"label {label!r} says good and bad at once")


def of_votes(votes: Sequence[Vote]) -> tuple[str, float]:
    """The label that the majority gives, and the share of votes that call the image bad.

    Half the votes are enough for bad. The classes are those that at least half of the bad votes
    name; when none has so many, those named most often.
    """
    bad = [vote for vote in votes if vote.label != GOOD]
    share = len(bad) / len(votes)
    if share < 0.5:
        return GOOD, share
    named = Counter(name for vote in bad for name in vote.defects)
    enough = min(len(bad) / 2, max(named.values()))
    return ";".join(sorted(name for name, count in named.items() if count >= enough)), share


def check_rows(rows: Sequence[Row], classes: Sequence[str]) -> None:
    """Refuse rows that contradict each other or the classes.

    Raises:
        DataError: a path occurs twice, a class has no image, a part lies in two groups, ...
    """
    if not rows:
        raise DataError("the set holds no images")
    twice = [path for path, count in Counter(row.path for row in rows).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} paths occur more than once: {listed(sorted(twice))}")
    if len(set(classes)) != len(classes) or GOOD in classes:
        raise DataError("classes must name each defect class once, and not `good`")
    voted = {name for row in rows for vote in row.votes for name in vote.defects}
    named = voted | {name for row in rows for name in row.defects}
    unknown = sorted(named - set(classes))
    if unknown:
        raise DataError(f"labels that are not among the classes: {listed(unknown)}")
    shown = {region.defect for row in rows for region in row.regions}
    if shown - set(classes):
        raise DataError(
            f"regions of classes that no label names: {listed(sorted(shown - set(classes)))}",
            remedy="Leave out what is allowed of these classes: there is nothing to tell it from.",
        )
    used = Counter(name for row in rows for name in (row.defects or (GOOD,)))
    empty = [name for name in (GOOD, *classes) if not used[name]]
    if empty:
        raise DataError(
            f"no image of: {listed(empty)}",
            remedy="Add images of it, or leave the class out; good and bad parts are both needed.",
        )
    doubtful = [row.path for row in rows if not (row.bad or row.votes) and row.certainty > 0]
    if doubtful and len(classes) != 1:
        raise DataError(
            f"good rows with a probability above 0, but {len(classes)} classes it could mean: "
            f"{listed(doubtful)}"
        )
    places: dict[str, set[str]] = {}
    for row in rows:
        places.setdefault(row.part, set()).add(row.group)
    torn = sorted(part for part, groups in places.items() if len(groups) > 1)
    if torn:
        raise DataError(f"{len(torn)} parts lie in more than one group: {listed(torn)}")


def rows_as_csv(rows: Iterable[Row]) -> str:
    """The rows as the text of manifest.csv, without their regions; equal rows give equal text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        votes = [[vote.annotator, vote.label] for vote in row.votes]
        cells = {name: getattr(row, name) for name in COLUMNS}
        cells["votes"] = json.dumps(votes, ensure_ascii=False) if votes else None
        writer.writerow(["" if cell is None else cell for cell in cells.values()])
    return text.getvalue()


def parse_rows(
    file: Iterable[str],
    source: str,
    regions: Mapping[str, tuple[DefectRegion, ...]] | None = None,
) -> tuple[Row, ...]:
    """Rows out of a CSV with the columns of `COLUMNS`, or of the first release.

    Args:
        file: its lines.
        source: what a message calls it.
        regions: by path.

    Raises:
        DataError: a column is missing or unknown, or a value makes no sense; names the line.
    """
    reader = csv.DictReader(file)
    columns = tuple(reader.fieldnames or ())
    if columns not in (COLUMNS, FORMER_COLUMNS):
        raise DataError(f"{source}: columns {', '.join(columns)}; wanted {', '.join(COLUMNS)}")
    rows = []
    for line, cells in enumerate(reader, start=2):
        if None in cells or None in cells.values():
            raise DataError(f"{source}, line {line}: wanted {len(columns)} cells")
        values: dict[str, Any] = {name: text or None for name, text in cells.items()}
        for name in ("path", "sha256", "label", "part", "group"):
            values[name] = values[name] or ""
        try:
            if values["probability"] is not None:
                values["probability"] = float(values["probability"])
            votes = json.loads(values.pop("votes", None) or "[]")
            values["votes"] = tuple(Vote(annotator=name, label=label) for name, label in votes)
            rows.append(Row(**values, regions=(regions or {}).get(values["path"], ())))
        except (DataError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{source}, line {line}: {error}") from error
    return tuple(rows)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def counted(count: int, noun: str) -> str:
    """So many of a thing, such as "1 bad part" or "2 bad parts"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_rows(
    product: str, classes: Sequence[str], rows: Sequence[Row], calibration: str | None = None
) -> str:
    """SHA-256 over all that training depends on; paths are left out.

    What the first release did not know stands in an object at the end of a row, which is left out
    when it is empty, as the digest of a calibration is: so its digests stay.
    """
    content: list[Any] = [product, list(classes), [_content(row) for row in rows]]
    if calibration is not None:
        content.append({"calibration": calibration})
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _content(row: Row) -> list[Any]:
    known: list[Any] = [
        row.sha256,
        list(row.defects),
        row.part,
        row.group,
        row.certainty,
        row.lot,
        row.mould,
        row.captured_at,
    ]
    more = {
        "station": row.station,
        "view": row.view,
        "annotator": row.annotator,
        "votes": [[vote.annotator, list(vote.defects)] for vote in row.votes],
        "regions": [region.content for region in row.regions],
    }
    said = {name: value for name, value in more.items() if value}
    return [*known, said] if said else known
