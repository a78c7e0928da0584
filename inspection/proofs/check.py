"""Checking a proof archive: what it proves, what it does not, and what is wrong with it.

1. every byte of the archive is accounted for                     (proof.unpack)
2. the checkpoint is one, and is signed by the keys that were given
3. each entry is canonical JSON of its kind, and in the tree that the checkpoint signs
4. each entry is about the part, under one of the names that entries gave it
5. each image and evidence map that an inspection names is here, or was erased on record
6. each picture of the evidence shows what the evidence says, drawn again
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from inspection.errors import InputError, InspectionError
from inspection.events import (
    Assembly,
    Erasure,
    Hold,
    Naming,
    PartEvent,
    ProcessValues,
    Release,
    ViewSet,
)
from inspection.proofs.archive import (
    CHECKPOINT,
    Index,
    ProvenEntry,
    evidence_name,
    evidence_picture,
    heatmap_name,
    image_name,
    read_entry,
    unpack,
)
from inspection.proofs.merkle import leaf_hash, verify_inclusion
from inspection.proofs.notes import Checkpoint, Note, VerifierKey, cosigned_at, holds
from inspection.record import InspectionRecord, ReviewRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.entries import Entry

PICTURE_TOLERANCE: Final = 3
"""Of 255: what another release of the drawing library may round otherwise."""


@dataclass(slots=True, kw_only=True)
class ProofReport:
    """What was found; `ok` when nothing is wrong.

    Attributes:
        proven: a sentence for each thing that the file shows.
        unproven: a sentence for each thing that it does not.
        problems: a sentence for each thing that is wrong.
    """

    proven: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_archive(
    data: bytes, *, keys: Sequence[VerifierKey] = (), witness_keys: Sequence[VerifierKey] = ()
) -> ProofReport:
    """Check an archive; needs nothing else.

    Args:
        data: of the file.
        keys: of the log; one of them must have signed. Unchecked when there are none.
        witness_keys: of witnesses; each of them must have cosigned.

    Returns:
        The report; an archive that cannot be read at all is a problem in it.
    """
    report = ProofReport()
    try:
        index, contents = unpack(data)  # 1
        note = Note.parse(contents[CHECKPOINT].decode("utf-8"))
        head = Checkpoint.parse(note.text)
        if head.size != index.size or str(note).encode() != contents[CHECKPOINT]:
            raise InputError("checkpoint.txt is not the checkpoint that index.json names")
    except (InspectionError, KeyError, UnicodeDecodeError) as error:
        report.problems.append(str(error) if isinstance(error, InspectionError) else "damaged")
        return report
    _Check(index, contents, note, head, report).run(keys, witness_keys)
    return report


class _Check:
    """One archive. The numbers are those of the module's docstring."""

    def __init__(
        self,
        index: Index,
        contents: dict[str, bytes],
        note: Note,
        head: Checkpoint,
        report: ProofReport,
    ) -> None:
        self._index = index
        self._contents = contents
        self._note = note
        self._head = head
        self._report = report
        self._entries: list[tuple[ProvenEntry, Entry]] = []
        self._used = {CHECKPOINT}

    def run(self, keys: Sequence[VerifierKey], witness_keys: Sequence[VerifierKey]) -> None:
        for each in self._index.entries:
            self._entry(each)
        self._about_the_part()
        self._files()
        for name in sorted(self._contents.keys() - self._used):
            self._wrong(f"{name} belongs to no entry")
        if self._report.ok:
            self._report.proven.append(
                f"These {len(self._entries)} entries stood in the records of {self._head.origin} "
                f"unchanged when they held {self._head.size:,} entries."
            )
        self._signed(keys)
        self._witnessed(witness_keys)
        self._report.unproven += [
            "That nothing was left out of this file.",
            "That a mark was read rightly, or that a verdict was right.",
        ]

    def _wrong(self, text: str) -> None:
        self._report.problems.append(text)

    def _entry(self, each: ProvenEntry) -> None:  # 3
        what = f"entry {each.sequence}"
        body = self._contents.get(each.file)
        self._used.add(each.file)
        if body is None:
            self._wrong(f"{what}: its file is missing")
            return
        try:
            proof = [bytes.fromhex(text) for text in each.proof]
            if [value.hex() for value in proof] != each.proof:
                raise ValueError("not in its one form")
            entry = read_entry(each.kind, body)
        except (ValueError, InspectionError):
            self._wrong(f"{what} is not {each.kind} as it is written down")
            return
        leaf = leaf_hash(body)
        if not verify_inclusion(each.sequence - 1, self._head.size, leaf, proof, self._head.root):
            self._wrong(f"{what} is not in the tree that the checkpoint signs")
        self._entries.append((each, entry))

    def _about_the_part(self) -> None:  # 4
        names, product = {self._index.part}, self._index.product
        for _, entry in self._entries:
            if isinstance(entry, Naming) and entry.product == product:
                names |= {entry.part, entry.serial}
        if set(self._index.names) - names:
            self._wrong("no entry gives the part all of the names in index.json")
        known = {
            entry.id
            for _, entry in self._entries
            if isinstance(entry, InspectionRecord | Hold | ViewSet)
        }
        missing = _named_files(self._entries) - self._digests()
        for each, entry in self._entries:
            if not _is_about(entry, product, set(self._index.names), known, missing):
                self._wrong(f"entry {each.sequence} is not about this part")

    def _digests(self) -> set[str]:
        return {
            name.partition("/")[2].partition(".")[0]
            for name in self._contents
            if name.startswith(("images/", "evidence/"))
        }

    def _files(self) -> None:  # 5
        erased = {
            digest
            for _, entry in self._entries
            if isinstance(entry, Erasure)
            for digest in entry.files
        }
        pictures = 0
        for each, entry in self._entries:
            if not isinstance(entry, InspectionRecord):
                continue
            names = {image_name(entry): entry.image_sha256}
            if entry.evidence is not None:
                names[evidence_name(entry.evidence.sha256)] = entry.evidence.sha256
            here = True
            for name, digest in names.items():
                self._used.add(name)
                if name not in self._contents:
                    here = False
                    if digest not in erased:
                        self._wrong(f"{name} is missing, and no entry says that it was erased")
                elif self._index.files[name] != digest:
                    self._wrong(f"{name} is not the file that entry {each.sequence} names")
            if here and entry.evidence is not None:
                pictures += self._picture(each.sequence, entry)
        if self._report.ok and pictures:
            self._report.proven.append(f"{pictures} pictures show what the evidence says.")
        if gone := erased & _named_files(self._entries) - self._digests():
            self._report.unproven.append(
                f"What {len(gone)} files held that were erased: their digests are proven."
            )

    def _picture(self, sequence: int, record: InspectionRecord) -> int:  # 6
        name = heatmap_name(sequence)
        self._used.add(name)
        assert record.evidence is not None  # noqa: S101  its caller looked
        if name not in self._contents:
            self._wrong(f"{name} is missing")
            return 0
        try:
            drawn = evidence_picture(
                record,
                self._contents[image_name(record)],
                self._contents[evidence_name(record.evidence.sha256)],
            )
        except InspectionError as error:
            self._wrong(f"{name} cannot be drawn again: {error}")
            return 0
        if not _alike(drawn, self._contents[name]):
            self._wrong(f"{name} does not show what the evidence of entry {sequence} says")
            return 0
        return 1

    def _signed(self, keys: Sequence[VerifierKey]) -> None:  # 2
        if not keys:
            self._report.unproven.append(
                "Whose records these are: no key was given, so anybody may have signed the "
                "checkpoint. Ask the owner for the verifier key, and give it with --key."
            )
            return
        signed = [key for key in keys if key.name == self._head.origin and self._has(key)]
        if signed:
            self._report.proven.append(f"The checkpoint is signed with the key {signed[0]}.")
        else:
            self._wrong("the checkpoint is not signed with the key that was given")

    def _witnessed(self, keys: Sequence[VerifierKey]) -> None:
        for key in keys:
            if not self._has(key):
                self._wrong(f"the checkpoint is not cosigned by {key}")
                continue
            line = next(line for line in self._note.signatures if line.is_by(key))
            when = _moment(cosigned_at(line))
            self._report.proven.append(
                f"{key.name} saw these records, as the continuation of all it had seen before, at "
                f"{when} by its clock."
            )
        if not keys:
            self._report.unproven.append(
                "That there is no other history beside this one: no witness's key was given "
                "(--witness-key)."
            )

    def _has(self, key: VerifierKey) -> bool:
        return any(holds(self._note, line, key) for line in self._note.signatures)


def _is_about(
    entry: Entry, product: str, names: set[str], known: set[str], missing: set[str]
) -> bool:
    match entry:
        case InspectionRecord() | PartEvent() | ViewSet():
            return entry.product == product and entry.part in names
        case Naming():
            return entry.product == product and {entry.part, entry.serial} <= names
        case ReviewRecord():
            return entry.inspection_id in known
        case Assembly():
            parts = {
                (entry.product, entry.part),
                (entry.component_product, entry.component_part),
            }
            return any((product, name) in parts for name in names)
        case Hold():
            return entry.product == product and entry.scope == "part" and entry.value in names
        case Release():
            return entry.hold_id in known
        case ProcessValues():
            return any(v.product == product and v.part in names for v in entry.values)
        case Erasure():
            return bool(missing & set(entry.files))


def _named_files(entries: Sequence[tuple[ProvenEntry, Entry]]) -> set[str]:
    found: set[str] = set()
    for _, entry in entries:
        if isinstance(entry, InspectionRecord):
            found.add(entry.image_sha256)
            if entry.evidence is not None:
                found.add(entry.evidence.sha256)
    return found


def _alike(one: bytes, other: bytes) -> bool:
    if one == other:
        return True
    first, second = _pixels(one), _pixels(other)
    if first is None or second is None or first.shape != second.shape:
        return False
    return int(np.abs(first.astype(np.int16) - second.astype(np.int16)).max()) <= PICTURE_TOLERANCE


def _pixels(data: bytes) -> NDArray[np.uint8] | None:
    decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    return None if decoded is None else np.asarray(decoded, dtype=np.uint8)


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return f"{seconds} s"
