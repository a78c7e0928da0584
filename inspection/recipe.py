"""What a product's images must be, and how they become the network's input.

    Frame -> checks -> flat field -> region -> input size -> background -> (C, H, W) float32

A recipe is a TOML file that travels inside the model package. `prepare()` is the one definition of
what lies between a frame and the network; training and serving both call it. It keeps every bit:
the intensity window is applied inside the network's graph, in float32.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import cv2
import numpy as np
import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.detector.background import WIDEST, Background, remove_background
from inspection.display import Display
from inspection.errors import RecipeError, Unjudgeable
from inspection.serials import SerialFormat
from inspection.zones.checking import check_zones
from inspection.zones.reference import Reference
from inspection.zones.shapes import Rule, Zone, check_rules

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.detector.flat_field import FlatField
    from inspection.frame import Frame

Flip = Literal["horizontal", "vertical", "rot90"]

ADDED_SINCE: Final = ("flat_field", "severity_from_mm", "references", "zones", "elsewhere")
"""Fields that recipes of release 0.1 did not have, and that are not None when they say nothing."""


PITCHES_APART: Final = 0.05
"""How far, as a share, the pixel that a DICOM file says may lie off the recipe's: half of the guard
band of sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A rectangle in frame pixels; `top` and `left` count from 0."""

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.top < 0 or self.left < 0 or self.height < 1 or self.width < 1:
            raise RecipeError(f"region {self} is empty or lies outside the image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one product is inspected.

    Attributes:
        product: the product's name as stations and the MES send it.
        revision: goes up by one whenever anything below changes.
        modality: "x-ray" or "vision".
        bits: 8 or 16, the depth that a frame must have.
        channels: 1 for grey, 3 for RGB.
        input_size_px: (height, width) of the network's input.
        window: (low, high) grey levels that the network's input range spans; with a background,
            contrasts around 0.
        classes: defect classes, in the order of the network's outputs.
        frame_size_px: (height, width) that a frame must have; any size when absent.
        region: the part of the frame that is judged; the whole frame when absent.
        flips: turns and flips under which a part of this product is still such a part; training
            may use them.
        serial: the format of this product's marks; any text when absent.
        views: the views of a part that make one inspection; a single image when absent.
        flat_field: frames are corrected by their detector's calibration first; its open beam then
            lies at `detector.flat_field.OPEN_LEVEL`.
        background: how the local background is taken away; it is not when absent.
        pitch_mm: size of a frame's pixel on the part.
        severity_from_mm: the sizes at which severity 1, 2, ... begin, in mm.
        references: the view that images are aligned to, one for each of `views`.
        zones: areas of the part and what each allows; the first that a defect touches counts.
        elsewhere: what is allowed outside every zone; nothing when there are no rules.
        display: how a frame is shown to people; the network never sees it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    product: str
    revision: int = 1
    modality: Literal["x-ray", "vision"]
    bits: Literal[8, 16]
    channels: Literal[1, 3]
    input_size_px: tuple[int, int]
    window: tuple[float, float]
    classes: tuple[str, ...]
    frame_size_px: tuple[int, int] | None = None
    region: Region | None = None
    flips: tuple[Flip, ...] = ()
    serial: SerialFormat | None = field(default=None)
    views: tuple[str, ...] | None = None
    flat_field: bool = False
    background: Background | None = None
    pitch_mm: float | None = None
    severity_from_mm: tuple[float, ...] = ()
    references: tuple[Reference, ...] = ()
    zones: tuple[Zone, ...] = ()
    elsewhere: tuple[Rule, ...] = ()
    display: Display | None = None

    def __post_init__(self) -> None:
        if not self.product or self.product.strip() != self.product or "/" in self.product:
            raise RecipeError(f"product {self.product!r} cannot be used as a name")
        if self.revision < 1:
            raise RecipeError("revision counts from 1")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise RecipeError("classes must name at least one defect class, each once")
        if "good" in self.classes:
            raise RecipeError("`good` is not a defect class")
        if min(self.input_size_px) < 32 or max(self.input_size_px) > 8192:
            raise RecipeError(f"input_size_px {self.input_size_px} is out of range 32..8192")
        if self.views is not None and (
            not self.views or len(set(self.views)) != len(self.views) or not all(self.views)
        ):
            raise RecipeError("views must name at least one view, each once")
        low, high = self.window
        if self.background is not None:
            if not (-WIDEST <= low < high <= WIDEST):
                raise RecipeError(
                    f"window {self.window} is no range of contrasts: with a background it lies "
                    "around 0, for example [-0.2, 0.1]"
                )
        elif not (0 <= low < high <= 2**self.bits - 1):
            raise RecipeError(f"window {self.window} does not fit {self.bits} bits")
        if self.flat_field and (self.bits, self.channels) != (16, 1):
            raise RecipeError("flat_field is for 16-bit grey frames")
        check_rules(self.elsewhere, where="elsewhere")
        check_zones(
            zones=self.zones,
            elsewhere=self.elsewhere,
            references=self.references,
            severity_from_mm=self.severity_from_mm,
            pitch_mm=self.pitch_mm,
            frame_size_px=self.frame_size_px,
            views=self.views,
            classes=self.classes,
        )

    def judged_region(self, frame_size_px: tuple[int, int]) -> Region:
        """The rectangle of a frame of this size (height, width) that the network sees."""
        height, width = frame_size_px
        return self.region or Region(top=0, left=0, height=height, width=width)

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe's TOML form, in hex."""
        return hashlib.sha256(dump_recipe(self).encode()).hexdigest()


def prepare(frame: Frame, recipe: Recipe, flat: FlatField | None = None) -> NDArray[np.float32]:
    """The network's input: (C, H, W) float32 in grey levels, or in contrast against a background.

    Flat-fields where the recipe says so, crops to its region, resizes to its input size (averaging
    over areas when the image shrinks, bilinear when it grows) and removes the local background
    where the recipe names one. Nothing on this path has fewer than 24 bits.

    Args:
        frame: as it was decoded.
        recipe: of the product.
        flat: the calibration of the detector that took it; needed where the recipe flat-fields.

    Raises:
        Unjudgeable: the frame is not what the recipe or the calibration was made for.
    """
    return network_input(judged_pixels(frame, recipe, flat), recipe)


def network_input(pixels: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """(C, H, W) float32, the second half of `prepare`: from what `judged_pixels` gives."""
    full_height, full_width = pixels.shape[:2]
    to_height, to_width = recipe.input_size_px
    if pixels.shape[:2] != (to_height, to_width):
        shrinks = to_height < full_height or to_width < full_width
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized = cv2.resize(pixels, (to_width, to_height), interpolation=method)
        pixels = np.asarray(resized, dtype=np.float32)
    if recipe.background is not None:
        scale = (to_height / full_height, to_width / full_width)
        pixels = remove_background(pixels, recipe.background, scale=scale)
    planes = pixels[np.newaxis] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(planes, dtype=np.float32)


def judged_pixels(
    frame: Frame, recipe: Recipe, flat: FlatField | None = None
) -> NDArray[np.float32]:
    """(H, W) or (H, W, 3) float32: the judged region at full resolution, flat-fielded if need be.

    Raises:
        Unjudgeable: as `prepare`.
    """
    if frame.bits != recipe.bits:
        raise Unjudgeable(f"the frame has {frame.bits} bits, the recipe wants {recipe.bits}")
    if frame.channels != recipe.channels:
        kinds = {1: "grey", 3: "colour"}
        raise Unjudgeable(
            f"the frame is {kinds[frame.channels]}, the recipe wants {kinds[recipe.channels]}"
        )
    if recipe.frame_size_px is not None and frame.size_px != recipe.frame_size_px:
        raise Unjudgeable(
            f"the frame is {_size(frame.size_px)} pixels, "
            f"the recipe wants {_size(recipe.frame_size_px)}"
        )
    _check_pitch(frame, recipe)
    region = recipe.judged_region(frame.size_px)
    height, width = frame.size_px
    if region.top + region.height > height or region.left + region.width > width:
        raise Unjudgeable(f"the recipe's region lies outside a frame of {_size(frame.size_px)}")
    rows = slice(region.top, region.top + region.height)
    columns = slice(region.left, region.left + region.width)
    if not recipe.flat_field:
        return frame.pixels[rows, columns].astype(np.float32)
    if flat is None:
        raise Unjudgeable(
            "the recipe flat-fields, and there is no calibration of this detector",
            reason="calibration-missing",
        )
    within = (region.top, region.left, region.height, region.width)
    return flat.correct(frame, within=within)[rows, columns]


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RecipeError: it is missing, is not TOML, or holds a key or value that makes no sense.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror or error}") from error
    return parse_recipe(text, source=str(path))


def parse_recipe(text: str, *, source: str = "recipe") -> Recipe:
    """Parse a recipe's TOML text; see `load_recipe`."""
    try:
        return _adapter().validate_python(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{source}: not TOML: {error}") from error
    except ValidationError as error:
        raise RecipeError(f"{source}: {first_complaint(error)}") from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML; the same recipe always gives the same text.

    What later releases added is left out where it says nothing, so that an old recipe keeps its
    text, and with it its digest.
    """
    document = _adapter().dump_python(recipe, mode="json", exclude_none=True)
    for name in ADDED_SINCE:
        if not document.get(name, True):
            del document[name]
    return tomli_w.dumps(document)


def first_complaint(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, in one line: `key: what`."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"]) or "file"
    return f"{place}: {first['msg']}"


@cache
def _adapter() -> TypeAdapter[Recipe]:
    return TypeAdapter(Recipe)


def _check_pitch(frame: Frame, recipe: Recipe) -> None:
    """Sizes in mm are no sizes where a file that knows its pixel's contradicts the recipe.

    Only DICOM does: it tells the part's plane from the detector's, other files do not.
    """
    said, wanted = frame.pitch_mm, recipe.pitch_mm
    if not recipe.references or wanted is None or said is None or frame.acquisition is None:
        return
    if not abs(said / wanted - 1) <= PITCHES_APART:
        raise Unjudgeable(
            f"the file says that a pixel is {said:.4g} mm on the part, the recipe {wanted:g} mm: "
            "set the station's geometry back, or correct pitch_mm in the recipe",
            reason="misaligned",
        )


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[1]} x {size_px[0]}"
