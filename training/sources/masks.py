"""Mask images in folders of the classes: any value but 0 is the defect.

    DIR/masks/crack/0002.png  or  DIR/masks/crack/0002_mask.png  for  DIR/crack/0002.png

A mask is called like its image and has its size. Each is claimed by an image that shows its class;
one that no image claims must be empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from inspection.errors import DataError
from training.data.rows import listed
from training.sources import LabelledRegion, check_class_name, images_under

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.sources import LabelledFile

MASKS = "masks"
ENDINGS = ("_mask", "-mask", "_GT", "_gt")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFiles:
    """The mask files of a folder, by class and by the image that they belong to.

    Attributes:
        folder: where they lie.
        paths: (class, path of the image in its class's folder, without suffix) -> mask.
        claimed: keys of those that an image of their class has taken.
    """

    folder: Path
    paths: dict[tuple[str, str], Path]
    claimed: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def under(cls, folder: Path, *, one_class: str | None = None) -> MaskFiles:
        """Those in folders of the classes; or all of one class, at any depth.

        Raises:
            DataError: one lies outside the classes' folders, two are of one image and class, or
                one is a JPEG, which does not keep the value 0.
        """
        paths: dict[tuple[str, str], Path] = {}
        for path in images_under(folder)[0]:
            inner = path.relative_to(folder)
            if one_class is None and len(inner.parts) < 2:
                raise DataError(
                    f"{path} lies in no class's folder",
                    remedy=f"Put masks into {folder}/CLASS/, under the names of their images.",
                )
            if path.suffix.lower() in (".jpg", ".jpeg"):
                raise DataError(
                    f"{path}: a mask cannot be a JPEG, which does not keep the value 0",
                    remedy="Save masks as PNG.",
                )
            label = one_class or inner.parts[0]
            place = folder if one_class is not None else folder / label
            inside = path.relative_to(place).with_suffix("")
            stem = inside.name
            for ending in ENDINGS:
                stem = stem.removesuffix(ending)
            key = label, inside.with_name(stem).as_posix()
            if key in paths:
                raise DataError(f"two masks of one image and class: {paths[key]}, {path}")
            paths[key] = path
        for name in {label for label, _ in paths}:
            check_class_name(name)
        return cls(folder=folder, paths=paths)

    def claim(self, defects: Sequence[str], key: str) -> tuple[LabelledRegion, ...]:
        """The masks of an image that shows these classes."""
        found = [(name, key) for name in defects if (name, key) in self.paths]
        self.claimed.update(found)
        return tuple(
            LabelledRegion(defect=each[0], mask=self.paths[each], name=self._name(each))
            for each in found
        )

    def with_empty_ones(self, files: Sequence[LabelledFile]) -> tuple[LabelledFile, ...]:
        """The files, with the masks that belong to them but to no class of their label.

        Raises:
            DataError: masks belong to no image.
        """
        left: dict[str, list[Path]] = {}
        for key, path in self.paths.items():
            if key not in self.claimed:
                left.setdefault(key[1], []).append(path)
        completed = tuple(
            replace(file, empty_masks=tuple(left.get(file.mask_key, ()))) for file in files
        )
        keys = {file.mask_key for file in files}
        astray = [str(path) for key, paths in left.items() if key not in keys for path in paths]
        if astray:
            raise DataError(
                f"{len(astray)} masks belong to no image: {listed(astray)}",
                remedy="A mask is called like its image, with or without `_mask` at the end.",
            )
        return completed

    def _name(self, key: tuple[str, str]) -> str:
        return f"{key[0]}/{key[1]}{self.paths[key].suffix.lower()}"
