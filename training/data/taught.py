"""A labelled set as a training takes it: the imported one, with other words for group or defect.

    manifest -> the groups that its parts really share -> one class where the preset knows no other

It stays the same set: rows keep their order and numbers, and the digest is that of the import.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from training.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.data.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught(Manifest):
    """Made with `taught_as`: rows and classes differ from the import, order and digest do not."""

    imported_digest: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", self.imported_digest)


def taught_as(
    manifest: Manifest, rows: Sequence[Row], *, classes: Sequence[str] | None = None
) -> Taught:
    """The set with these rows, one for each of its own and in their order."""
    values: dict[str, Any] = {
        one.name: getattr(manifest, one.name) for one in fields(Manifest) if one.init
    }
    if len(rows) != len(manifest.rows):
        raise ValueError(f"{len(rows)} rows for {len(manifest.rows)}")
    values |= {"rows": tuple(rows), "classes": tuple(classes or manifest.classes)}
    return Taught(**values, imported_digest=manifest.digest)


def grouped_as(manifest: Manifest, names: Sequence[str]) -> Manifest:
    """The set whose rows lie in the groups of these names, (N,)."""
    if tuple(names) == manifest.groups:
        return manifest
    rows = [replace(row, group=name) for row, name in zip(manifest.rows, names, strict=True)]
    return taught_as(manifest, rows)
