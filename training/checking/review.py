"""review.csv: what a check found, for a person to decide; and the decisions read back.

    path,sha256,label,suggested,finding,new_label

The person fills in new_label: a label such as `good` or `crack;void`, or `exclude`. Lines where it
stays empty change nothing.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inspection.errors import DataError
from training.data.rows import GOOD, listed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from training.checking.findings import Check
    from training.data.rows import Row
    from training.manifest import Manifest

COLUMNS = ("path", "sha256", "label", "suggested", "finding", "new_label")
EXCLUDE = "exclude"
DECIDED = "decided before"  # the finding of a line that only a former check gave a reason for


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A filled-in line: which image gets which label; `exclude` takes it out."""

    line: int
    path: str
    sha256: str
    new_label: str


def review_text(check: Check, decided: Mapping[tuple[str, str], str] | None = None) -> str:
    """review.csv of a check: a line for every image of a finding, worst first, then what a person
    has decided about others, such as those of label noise before a `--quick` check.

    Args:
        check: what was found.
        decided: new labels by (path, sha256) that are kept from a former review.
    """
    findings: dict[int, list[str]] = {}
    suggested: dict[int, str] = {}
    for finding in check.findings:
        for case in finding.cases:
            for row in case.rows:
                codes = findings.setdefault(row, [])
                if finding.code not in codes:
                    codes.append(finding.code)
            if case.suggested is not None:
                suggested.setdefault(case.rows[0], case.suggested)
    for number, image in enumerate(check.manifest.rows):
        if (image.path, image.sha256) in (decided or {}):
            findings.setdefault(number, [DECIDED])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, codes in findings.items():
        image = check.manifest.rows[number]
        kept = (decided or {}).get((image.path, image.sha256), "")
        cells = (
            image.path,
            image.sha256,
            image.label,
            suggested.get(number, ""),
            "; ".join(codes),
            kept,
        )
        writer.writerow(cells)
    return text.getvalue()


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """The filled-in lines of a review.

    Raises:
        DataError: it is not a review.csv, or a line says too little; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {getattr(error, 'strerror', None) or error}",
            remedy="Save it as CSV in UTF-8.",
        ) from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=";" if ";" in first and "," not in first else ","
    )
    missing = {"path", "sha256", "new_label"} - set(reader.fieldnames or ())
    if missing:
        raise DataError(
            f"{path}: no column {listed(sorted(missing))}",
            remedy="Use the review.csv of `inspection data check`, and keep its first line.",
        )
    decisions = []
    try:
        for cells in reader:
            new_label = (cells["new_label"] or "").strip()
            if not new_label:
                continue
            if not cells["path"] or not cells["sha256"]:
                raise DataError(f"{path}, line {reader.line_num}: path or sha256 is missing")
            decisions.append(
                Decision(
                    line=reader.line_num,
                    path=cells["path"],
                    sha256=cells["sha256"].strip().lower(),
                    new_label=new_label,
                )
            )
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    return tuple(decisions)


def relabelled(manifest: Manifest, decisions: tuple[Decision, ...]) -> Manifest:
    """The set with the decisions in it; not written yet.

    A new label takes the place of probability, votes and annotator, which were about the old one;
    regions of defects that it does not name go.

    Raises:
        DataError: a line names an image that the set does not hold as it is, an unknown label, or
            contradicts another line; all such lines are named together.
    """
    rows = {row.path: row for row in manifest.rows}
    faults: list[str] = []
    chosen: dict[str, Decision] = {}
    for decision in decisions:
        fault = _fault(manifest, rows, chosen, decision)
        if fault:
            faults.append(f"line {decision.line}: {fault}")
        else:
            chosen[decision.path] = decision
    if faults:
        raise DataError(
            "the review cannot be applied: "
            + "; ".join(faults[:5])
            + (f"; and {len(faults) - 5} more" if len(faults) > 5 else ""),
            remedy="Correct these lines; nothing was changed.",
        )
    made = [
        _with_label(row, chosen[row.path].new_label) if row.path in chosen else row
        for row in manifest.rows
    ]
    kept = tuple(row for row in made if row is not None)
    if not kept:
        raise DataError("the review would exclude every image")
    return replace(manifest, rows=kept, classes=_classes_left(manifest, kept))


def _fault(
    manifest: Manifest, rows: Mapping[str, Row], chosen: Mapping[str, Decision], decision: Decision
) -> str | None:
    row = rows.get(decision.path)
    if row is None:
        return f"{manifest.reference} holds no {decision.path}"
    if row.sha256 != decision.sha256:
        return f"{decision.path} is another image than the one that was reviewed"
    before = chosen.get(decision.path)
    if before is not None and before.new_label != decision.new_label:
        return f"{decision.path} is {before.new_label} in line {before.line}"
    names = decision.new_label.split(";")
    if decision.new_label in (EXCLUDE, GOOD):
        return None
    unknown = [name for name in names if name not in manifest.classes]
    if unknown or len(set(names)) < len(names):
        known = ", ".join((GOOD, *manifest.classes, EXCLUDE))
        return f"{decision.new_label!r} is no label here (known: {known})"
    return None


def _with_label(row: Row, label: str) -> Row | None:
    if label == EXCLUDE:
        return None
    names = label.split(";")
    if set(names) == set(row.defects or (GOOD,)) and row.probability in (None, 0.0, 1.0):
        return row
    regions = tuple(each for each in row.regions if each.allowed or each.defect in names)
    return replace(row, label=label, probability=None, votes=(), annotator=None, regions=regions)


def _classes_left(manifest: Manifest, rows: tuple[Row, ...]) -> tuple[str, ...]:
    """The classes that some image still shows."""
    used = {name for row in rows for name in row.defects}
    return tuple(name for name in manifest.classes if name in used)
