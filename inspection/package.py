"""The model package: weights and everything that must travel with them.

    weights/<model>/<version>/
        model.onnx          the network that is served
        model.safetensors   the same weights, to go on training from
        recipe.toml         how its input is prepared, its classes, the product's marks
        report.json         what was measured on it, with intervals and counts
        report.html         the same to read, print and sign                              format 2
        split.csv           which image it was fitted, calibrated and tested on           format 2
        test.csv            a row for every test part: its label, and what was decided    format 2
        training.toml       every setting that it was made with                           format 2
        golden.npz          a few test images, and the answers it gave to them            format 2
        reference*.png|tif  the views that images are aligned to, as the recipe names them  format 3
        package.toml        who it is, calibration, limits, and the SHA-256 of every file above
        package.sha256      the digest of package.toml: the package's digest; written last

Packages of format 1 lack these five files; they still load, and serve where they were promoted.
Where the recipe names reference views a package is of format 3, so that an earlier release refuses
it.

A package is written into a hidden folder beside its place and renamed, so it is there whole or not
at all; it is never changed afterwards. Loading checks every digest. Whoever can write the folder
can forge all of it consistently; the log of promotions (`registry.py`) holds the digest that was
promoted, and that is what serving compares with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.agreement import Agreement
from inspection.errors import ConfigurationError, NotFound, PackageDamaged, RecipeError
from inspection.recipe import Recipe, dump_recipe, first_complaint, parse_recipe
from inspection.references import reference_views
from inspection.verdict import Calibration, OperatingPoint
from inspection.zones.reference import is_reference_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from io import BufferedReader

    from inspection.zones.registration import ReferenceView

MIB = 2**20
# The files of each format, and how large each may be: nothing that is read whole is unbounded.
LARGEST = {
    "model.onnx": 2048 * MIB,
    "model.safetensors": 8192 * MIB,
    "recipe.toml": MIB,
    "report.json": 64 * MIB,
    "report.html": 128 * MIB,
    "split.csv": 512 * MIB,
    "test.csv": 512 * MIB,
    "training.toml": MIB,
    "golden.npz": 256 * MIB,
}
CONTENT = {1: tuple(LARGEST)[:4], 2: tuple(LARGEST)}
WITH_REFERENCES = 3
LARGEST_REFERENCE = 128 * MIB
Precision = Literal["f32", "bf16", "f16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDocument:
    """What package.toml says, but for the file digests.

    Attributes:
        model: the model's name; the folder's name above the version.
        version: counts from 1.
        created_at: RFC 3339, in UTC.
        code_version: the version of this product that made it.
        backbone: the backbone's name, with the digest of the weights it started from.
        preset: how it was trained.
        precision: the arithmetic that calibration and limits were fitted at and serving must use.
        data_digest: digest of the manifest it was made from.
        calibration, operating_point: fitted on the serving engine at `precision`.
        agreement: what other engines make of the test parts; None when they were not asked.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: str
    version: int
    created_at: str
    code_version: str
    backbone: str
    preset: str
    precision: Precision
    data_digest: str
    calibration: Calibration
    operating_point: OperatingPoint
    agreement: Agreement | None = None

    def __post_init__(self) -> None:
        check_model_name(self.model)
        if self.version < 1:
            raise RecipeError("a model's versions count from 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPackage:
    """A package on disk whose digests held when it was loaded."""

    folder: Path
    digest: str
    files: Mapping[str, str]
    document: PackageDocument
    recipe: Recipe
    views: tuple[ReferenceView, ...] = ()

    @property
    def reference(self) -> str:
        """`name@version`, as every command takes it."""
        return f"{self.document.model}@{self.document.version}"

    @property
    def weights_digest(self) -> str:
        """SHA-256 of model.safetensors: equal for equal data, seed and machine."""
        return self.files["model.safetensors"]

    def read(self, name: str) -> bytes:
        """A file of the package, held against its digest once more.

        Raises:
            NotFound: packages of this one's format have no such file.
            PackageDamaged: it was changed since the package was loaded.
        """
        if name not in self.files:
            raise NotFound(
                f"{self.reference} has no {name}: it was made by an earlier release",
                remedy="Train the model again with this release.",
            )
        data = _read(self.folder / name, at_most=largest_of(name))
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            raise PackageDamaged(f"{self.folder / name} does not agree with its digest")
        return data

    def has(self, name: str) -> bool:
        """Whether there is such a file: those of format 2 may be missing."""
        return name in self.files

    def report(self) -> dict[str, Any]:
        """The contents of report.json."""
        loaded: dict[str, Any] = json.loads(self.read("report.json"))
        return loaded


def largest_of(name: str) -> int:
    """How many bytes a package's file may have at most; 0 for what is none."""
    return LARGEST_REFERENCE if is_reference_name(name) else LARGEST.get(name, 0)


def format_of(names: Collection[str]) -> int | None:
    """The format of a package that holds these files; None where there is none such."""
    plain = {name for name in names if not is_reference_name(name)}
    found = next((number for number, content in CONTENT.items() if set(content) == plain), None)
    return found if found is None or len(plain) == len(names) else WITH_REFERENCES


def is_model_name(name: str) -> bool:
    """Whether a model may be called so: letters, digits, `-`, `_` and `.`, and not hidden."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    return plain.isalnum() and plain.isascii() and not name.startswith((".", "-"))


def check_model_name(name: str) -> None:
    """Refuse a name that would not do as a folder's.

    Raises:
        RecipeError: `is_model_name` does not hold.
    """
    if not is_model_name(name):
        raise RecipeError(
            f"{name!r} cannot be a model's name",
            remedy="Choose a name of letters, digits, '-', '_' and '.', such as knuckles.",
        )


def next_version(root: Path, model: str) -> int:
    """The first version number of `model` under `root` that is above every existing one."""
    check_model_name(model)
    folder = root / model
    names = [place.name for place in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0) + 1


def write_package(
    root: Path, document: PackageDocument, recipe: Recipe, files: Mapping[str, bytes | Path]
) -> ModelPackage:
    """Write a package under `root` whole, or not at all.

    Args:
        root: the weights folder.
        document: who it is; its model and version give the folder.
        recipe: written as recipe.toml.
        files: all of a format's files but recipe.toml, as bytes or as files to copy. Those of
            format 2 are what is promoted; those of format 1 do to try a network out. With either
            come the reference views that the recipe names.

    Raises:
        ConfigurationError: the version exists, a file is too many, missing or too large, or the
            disk refused.
    """
    place = root / document.model / str(document.version)
    content = {**files, "recipe.toml": dump_recipe(recipe).encode()}
    made = format_of(content)
    if made is None:
        raise ConfigurationError(f"a package holds {', '.join(LARGEST)}; got {sorted(content)}")
    if place.exists():
        raise ConfigurationError(f"{place} exists; a version is never changed")
    building: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=place.parent))
        building.chmod(0o755)
        digests = {}
        for name, source in sorted(content.items()):
            data = source if isinstance(source, bytes) else source.read_bytes()
            if len(data) > largest_of(name):
                raise OSError(f"{name} is larger than {largest_of(name) // MIB} MiB")
            digests[name] = hashlib.sha256(data).hexdigest()
            _write_durably(building / name, data)
        toml = {
            "format": made,
            **_adapter().dump_python(document, mode="json", exclude_none=True),
            "files": digests,
        }
        text = tomli_w.dumps(toml).encode()
        _write_durably(building / "package.toml", text)
        digest = hashlib.sha256(text).hexdigest()
        _write_durably(building / "package.sha256", f"{digest}  package.toml\n".encode())
        _sync_folder(building)
        building.rename(place)
        _sync_folder(place.parent)
    except OSError as error:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
        raise ConfigurationError(
            f"the package could not be written to {place}: {error.strerror or error}",
            remedy="Free some disk space or correct the folder's rights, and run it again.",
        ) from error
    return load_package(place)


def load_package(folder: Path) -> ModelPackage:
    """Read a package and verify every digest in it.

    Raises:
        PackageDamaged: a file is missing, extra or altered; the message names it.
        RecipeError: digests hold, but the contents make no sense (made by a broken tool).
    """
    text = _read(folder / "package.toml", at_most=MIB)
    digest = hashlib.sha256(text).hexdigest()
    if _read(folder / "package.sha256", at_most=MIB) != f"{digest}  package.toml\n".encode():
        raise PackageDamaged(f"{folder / 'package.toml'} does not agree with package.sha256")
    try:
        toml = tomllib.loads(text.decode())
        found_format, files = toml.pop("format", None), dict(toml.pop("files", {}))
        if type(found_format) is not int or found_format not in (*CONTENT, WITH_REFERENCES):
            known = ", ".join(map(str, CONTENT))
            raise PackageDamaged(
                f"{folder}: package format {found_format}; this release reads {known} and "
                f"{WITH_REFERENCES}"
            )
        document = _adapter().validate_python(toml)
    except ValidationError as error:
        raise PackageDamaged(f"{folder / 'package.toml'}: {first_complaint(error)}") from error
    except (TypeError, ValueError, RecipeError) as error:
        raise PackageDamaged(f"{folder / 'package.toml'}: {error}") from error
    if format_of(files) != found_format:
        content = CONTENT.get(found_format, (*CONTENT[2], "reference.png"))
        raise PackageDamaged(f"{folder / 'package.toml'} lists {sorted(files)}, not {content}")
    for name, wanted in files.items():
        if _digest(folder / name, at_most=largest_of(name)) != wanted:
            raise PackageDamaged(f"{folder / name} does not agree with its digest")
    extra = {p.name for p in folder.iterdir()} - {*files, "package.toml", "package.sha256"}
    if extra:
        raise PackageDamaged(f"{folder / min(extra)} does not belong to the package")
    try:
        text_of_recipe = _read(folder / "recipe.toml", at_most=MIB).decode()
    except UnicodeDecodeError as error:
        raise RecipeError(f"{folder / 'recipe.toml'}: not UTF-8: {error}") from error
    recipe = parse_recipe(text_of_recipe, source=f"{folder}/recipe.toml")
    slopes, limits = document.calibration.slope, document.operating_point.pass_below
    if {len(slopes), len(limits)} != {len(recipe.classes)}:
        raise PackageDamaged(f"{folder}: recipe, calibration and limits differ in classes")
    named = {each.file: each.sha256 for each in recipe.references}
    if named != {name: sha for name, sha in files.items() if is_reference_name(name)}:
        raise PackageDamaged(f"{folder}: the reference views are not those of recipe.toml")
    return ModelPackage(
        folder=folder,
        digest=digest,
        files=files,
        document=document,
        recipe=recipe,
        views=reference_views(recipe, folder),
    )


@cache
def _adapter() -> TypeAdapter[PackageDocument]:
    return TypeAdapter(PackageDocument)


def _read(path: Path, *, at_most: int) -> bytes:
    with _open(path, at_most=at_most) as file:
        return file.read(at_most)


def _digest(path: Path, *, at_most: int) -> str:
    """SHA-256, a piece at a time: a network may be larger than the memory."""
    with _open(path, at_most=at_most) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _open(path: Path, *, at_most: int) -> Iterator[BufferedReader]:
    """A plain file of a bounded size; a pipe in its place would have the reader wait for ever.

    Raises:
        PackageDamaged: it is something else, too large, or cannot be read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise PackageDamaged(f"{path} is not a plain file")
        if found.st_size > at_most:
            raise PackageDamaged(f"{path} is larger than {at_most // MIB} MiB")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise PackageDamaged(f"{path} cannot be read: {error.strerror or error}") from error


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
