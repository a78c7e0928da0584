"""All that is known of one part, in one file that proves itself: no server, database or network.

    part.zip   README.txt                  what this is, in English and Korean
               index.json                  format, names of the part, entries, proofs, digests
               checkpoint.txt              the signed head that everything is proven against
               entries/SEQUENCE-KIND.json  each entry, byte for byte as it was hashed
               images/SHA256.EXT           originals, as the stations sent them
               evidence/SHA256.npy         evidence maps
               heatmaps/SEQUENCE.png       the evidence as people see it

The archive has one form: stored, sorted, without times. Whoever verifies it makes it again from its
contents and compares the bytes, so that nothing can hide between the files.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, cast

import numpy as np
import rfc8785
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.entries import Entry, EntryKind, canonical_json, parse_entry
from inspection.errors import InputError, RecordsDamaged
from inspection.frame import DecodeLimits, decode_image
from inspection.heatmap import overlay_png
from inspection.proofs.readme import readme
from inspection.recipe import Region
from inspection.verdict import Calibration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inspection.display import Display
    from inspection.record import InspectionRecord

FORMAT: Final = 1
README: Final = "README.txt"
INDEX: Final = "index.json"
CHECKPOINT: Final = "checkpoint.txt"
SUFFIXES: Final = {
    "image/png": "png",
    "image/tiff": "tif",
    "image/jpeg": "jpg",
    "application/dicom": "dcm",
}
_TIME: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenEntry:
    """One entry and its place in the tree.

    Attributes:
        proof: the hashes of its inclusion proof in hex, the lowest first.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    sequence: int
    kind: EntryKind
    proof: list[str]

    @property
    def file(self) -> str:
        """Its name in the archive."""
        return f"entries/{self.sequence:012}-{self.kind}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What is in the archive.

    Attributes:
        part: the identity that the part is kept under; `names` are all it has had.
        size: of the tree that the checkpoint signs.
        files: the SHA-256 of every other file but README.txt, by name.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    format: int
    product: str
    part: str
    names: list[str]
    size: int
    entries: list[ProvenEntry]
    files: dict[str, str]

    def __post_init__(self) -> None:
        sequences = [each.sequence for each in self.entries]
        if sequences != sorted(set(sequences)) or not sequences:
            raise ValueError("the entries are not in their order")
        if sequences[0] < 1 or sequences[-1] > self.size:
            raise ValueError("the checkpoint does not reach all entries")
        if not self.names or self.names[0] != self.part:
            raise ValueError("the names do not begin with the part's own")

    def dump(self) -> bytes:
        """Its one written form: canonical JSON (RFC 8785) and a newline."""
        return rfc8785.dumps(_INDEX.dump_python(self, mode="json")) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """The index in a file.

        Raises:
            InputError: it is none, of another format, or not in its one written form.
        """
        try:
            index = _INDEX.validate_json(data)
        except (ValidationError, ValueError, RecursionError) as error:
            raise InputError("index.json is not an index of such a file") from error
        if index.format != FORMAT:
            raise InputError(
                f"this file is of format {index.format}; this release knows format {FORMAT}",
                remedy="Verify it with the release that made it, or a later one.",
            )
        if index.dump() != data:
            raise InputError("index.json is not in its one written form")
        return index


_INDEX: Final = TypeAdapter(Index)


def read_entry(kind: str, body: bytes) -> Entry:
    """The entry in a body that is in its one written form.

    Raises:
        ValueError, InspectionError: it is none of its kind, or written in another way.
    """
    entry = parse_entry(cast("EntryKind", kind), body)  # an unknown kind is a ValueError
    if canonical_json(entry) == body:
        return entry
    # A later release may know more fields than the one that hashed this body: by the JSON itself,
    # not by writing the entry again. All numbers of RFC 8785 are doubles.
    try:
        if rfc8785.dumps(json.loads(body, parse_int=float)) == body:
            return entry
    except (TypeError, RecursionError) as error:
        raise ValueError("not JSON that could be written down") from error
    raise ValueError("not canonical JSON")


# --- the archive -------------------------------------------------------------------------------


def pack(index: Index, contents: Mapping[str, bytes]) -> bytes:
    """The archive.

    Args:
        index: names every file of `contents` with its digest.
        contents: every file but README.txt and index.json, by name.
    """
    return _zip({**contents, README: _readme(index), INDEX: index.dump()})


def unpack(data: bytes) -> tuple[Index, dict[str, bytes]]:
    """What is in an archive, whole: every byte of it is accounted for.

    Raises:
        InputError: it is no such archive, or a byte of it was changed.
    """
    contents = _unzip(data)
    try:
        index = Index.parse(contents.pop(INDEX))
        text = contents.pop(README)
    except KeyError as error:
        raise InputError(f"{error.args[0]} is missing in the file") from None
    if text != _readme(index):
        raise InputError("README.txt is not what it was")
    digests = {name: hashlib.sha256(held).hexdigest() for name, held in contents.items()}
    for name in sorted(digests.keys() ^ index.files.keys()):
        raise InputError(f"{name} is {'not in' if name in digests else 'only in'} index.json")
    for name, digest in digests.items():
        if index.files[name] != digest:
            raise InputError(f"{name} does not have the digest that index.json gives")
    return index, contents


def _readme(index: Index) -> bytes:
    return readme(
        product=index.product,
        part=index.part,
        names=index.names,
        sequences=[each.sequence for each in index.entries],
        size=index.size,
    ).encode()


def _zip(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, contents[name])
    return buffer.getvalue()


def _unzip(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            # Stored, so that what is unpacked is no larger than what was sent.
            if any(each.compress_type != zipfile.ZIP_STORED for each in members):
                raise InputError("a file in the archive is compressed; none is in such a file")
            if sum(each.file_size for each in members) > len(data):
                raise InputError("the archive is shorter than it says")
            contents = {each.filename: archive.read(each) for each in members}
            again = _zip(contents)
    except InputError:
        raise
    # What a damaged archive makes the library raise is not written down anywhere.
    except Exception as error:
        raise InputError(f"the file cannot be unpacked: {error}") from error
    if again != data:
        raise InputError("the file holds more than its contents, or is not in its one form")
    return contents


# --- pictures ----------------------------------------------------------------------------------


def image_name(record: InspectionRecord) -> str:
    """The original image's name in the archive."""
    suffix = SUFFIXES.get(record.image_media_type, "bin")
    return f"images/{record.image_sha256}.{suffix}"


def evidence_name(sha256: str) -> str:
    """An evidence map's name in the archive."""
    return f"evidence/{sha256}.npy"


def heatmap_name(sequence: int) -> str:
    """The name of the picture of an inspection's evidence."""
    return f"heatmaps/{sequence:012}.png"


def evidence_picture(
    record: InspectionRecord,
    image: bytes,
    evidence: bytes,
    *,
    alpha: float = 0.5,
    display: Display | None = None,
) -> bytes:
    """The image in grey with the evidence over it and the findings outlined, as a PNG.

    Args:
        record: holds where the evidence lies and how it is turned into probability.
        image: the original file.
        evidence: the .npy file.
        alpha: of the evidence, as in `overlay_png`.
        display: how the image is shown, where the recipe says so.

    Raises:
        RecordsDamaged: the record has no evidence, or the map cannot be read.
        ImageError: the image cannot be decoded.
    """
    reference = record.evidence
    if reference is None:
        raise RecordsDamaged(f"inspection {record.id} has no evidence map")
    height, width = record.image_size_px
    limits = DecodeLimits(max_bytes=len(image), max_pixels=height * width)
    frame = decode_image(image, limits=limits)
    try:
        scores = np.load(io.BytesIO(evidence), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RecordsDamaged(f"evidence map {reference.sha256} cannot be read") from error
    calibration = Calibration(slope=reference.slope, intercept=reference.intercept)
    top, left, box_height, box_width = reference.region_px
    return overlay_png(
        frame,
        calibration.local(scores.astype(np.float32)).max(axis=0),
        Region(top=top, left=left, height=box_height, width=box_width),
        boxes=[finding.region for finding in record.findings],
        labels=[
            "" if finding.size_mm is None else f"{finding.size_mm:.1f} mm"
            for finding in record.findings
        ],
        display=display,
        alpha=alpha,
    )
