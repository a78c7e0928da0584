"""2048 x 2048 16-bit TIFF from bytes to verdict on 2 cores: time by stage, and against the least.

    taskset -c 0,1 python benchmarks/castings/stages.py --package DIR [--rounds 15]

    bytes -> decode, digest -> flat field -> network -> limits -> alignment -> sizes, zones
      -> verdict -> files and record on the disk -> answer      inspection.pipeline.inspect_part

The least is `decode_tiff` and the engine's `infer` alone, on the same bytes and the same input; it
is measured by turns with the whole, and the ratio is the median of the pairs' ratios. The verdict
is there before the record is durable, and the station hears of it after that: both are said. Wall
clock beside processor time of all threads, for the disk's waiting is in the one only.

The detector (0.05 mm a pixel), its calibration, the parts and the reference view are simulated; the
recipe has the casting's zones. The package was trained at 0.1 mm a pixel. It is measured twice:

    input 2048    its network built again for every pixel of the frame: right times, wrong answers
    input 1024    as it is: the frame is averaged to the pixels that it was trained on

How much is sized depends on what the network finds: under limits that pass the part nothing is;
under the others one spot is looked into, the strongest (the casting has a pore of 0.5 mm).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from _rebuilt import rebuilt  # noqa: E402
from _zoned import calibrated, with_a_pore, zoned  # noqa: E402

from inspection.decoding.tiff import decode_tiff  # noqa: E402
from inspection.engines.openvino import OpenVinoEngine  # noqa: E402
from inspection.frame import DecodeLimits, decode_image  # noqa: E402
from inspection.package import load_package  # noqa: E402
from inspection.pipeline import Line, inspect_part, judge  # noqa: E402
from inspection.recipe import prepare  # noqa: E402
from inspection.record import InspectionRequest  # noqa: E402
from inspection.stores.files import FileImageStore  # noqa: E402
from inspection.stores.sql import open_records  # noqa: E402
from training.simulation.physics import Beam, Detector  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.detector.flat_field import FlatField
    from inspection.engine import Engine
    from inspection.frame import Frame
    from inspection.package import ModelPackage

SIZE_PX = (2048, 2048)
WARM_UPS = 2
BEAM = Beam()
DETECTOR = Detector(size_px=SIZE_PX, pitch_mm=102.4 / SIZE_PX[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, help="of a trained model, as study.py leaves it")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--short", action="store_true", help="two rounds")
    options = parser.parse_args()
    if options.package is None:
        print("not measured: give --package, a model that was trained on castings (study.py)")
        return 0
    package = load_package(options.package)
    recipe, view = zoned(package.recipe, BEAM, DETECTOR)
    flat, raw = calibrated(BEAM, DETECTOR), with_a_pore(BEAM, DETECTOR)
    rounds = 2 if options.short else options.rounds
    own, cores = package.recipe.input_size_px, len(os.sched_getaffinity(0))
    found: dict[str, Any] = {"cores": cores, "rounds": rounds}
    for size in sorted({SIZE_PX, own}, reverse=True):
        here = replace(package, recipe=replace(recipe, input_size_px=size), views=(view,))
        engine = OpenVinoEngine.for_package(here) if size == own else rebuilt(options.package, size)
        for spot in (False, True):
            limited = with_limits(here, engine, raw, flat, spot=spot)
            words = f"input {size[0]}, {'one spot' if spot else 'nothing'} to size"
            found[words] = measured(limited, engine, raw, flat, rounds)
        engine.close()
    print(json.dumps(found, indent=2))
    return 0


@dataclass(frozen=True)
class Bench:
    """A plant with one detector."""

    flat: FlatField

    def flat_field(self, station: str, acquisition: object) -> FlatField:
        return self.flat


def measured(
    package: ModelPackage, engine: Engine, raw: np.ndarray, flat: FlatField, rounds: int
) -> dict[str, Any]:
    """Medians over the rounds, in ms, and of the rounds' ratios."""
    rows, limits = [], DecodeLimits()
    with tempfile.TemporaryDirectory() as folder:
        records = open_records(f"sqlite:///{folder}/records.db")
        line = Line(
            package=package,
            engine=engine,
            images=FileImageStore(Path(folder) / "images"),
            records=records,
            limits=limits,
            detectors=Bench(flat),
        )
        image = prepare(decode_image(as_tiff(raw, 0)), package.recipe, flat)
        for number in range(rounds + WARM_UPS):
            data, row = as_tiff(raw, number), {}
            ways: list[tuple[str, Callable[[], object]]] = [
                ("least", lambda data=data: (decode_tiff(data, limits), engine.infer([image]))),
                ("verdict", lambda data=data, row=row: verdict_on(data, line, row)),
                ("durable", lambda data=data, n=number: inspect_part(data, request(n), line)),
            ]
            for name, way in ways[number % 3 :] + ways[: number % 3]:
                wall, spent = time.perf_counter(), time.process_time()
                way()
                row[name] = 1000 * (time.perf_counter() - wall)
                row[f"{name}, processor"] = 1000 * (time.process_time() - spent)
            for clock in ("", ", processor"):
                for name in ("verdict", "durable"):
                    row[f"{name} / least{clock}"] = row[name + clock] / row[f"least{clock}"]
            if number >= WARM_UPS:
                rows.append(row)
        records.close()
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


def verdict_on(data: bytes, line: Line, row: dict[str, float]) -> None:
    """Bytes to verdict; what each stage took goes into the row, the rest as `limits`."""
    start = time.perf_counter()
    frame: Frame = line.decode(data, limits=line.limits)
    timings = {"decode": 1000 * (time.perf_counter() - start)}
    judge(frame, "xray-1", line, timings)
    whole = 1000 * (time.perf_counter() - start)
    row.update({f"  {stage}": value for stage, value in timings.items()})
    row["  limits"] = whole - sum(timings.values())


def with_limits(
    package: ModelPackage, engine: Engine, raw: np.ndarray, flat: FlatField, *, spot: bool
) -> ModelPackage:
    """The package with limits under which this image passes, or has one spot to be looked into."""
    document = package.document
    image = prepare(decode_image(as_tiff(raw, 0)), package.recipe, flat)
    (prediction,) = engine.infer([image])
    probabilities = document.calibration.probabilities(prediction.scores)
    limits = np.ones(len(probabilities))
    if spot:
        k = int(np.argmax(probabilities))
        limits[k] = 0.999 * probabilities[k]
    low = tuple(limits.tolist())
    point = replace(document.operating_point, pass_below=low, fail_from=(1.0,) * len(low))
    return replace(package, document=replace(document, operating_point=point))


def as_tiff(raw: np.ndarray, number: int) -> bytes:
    """The file; no two are the same, for a store keeps an image once."""
    held, marked = io.BytesIO(), raw.copy()
    marked[0, 0] = number
    tifffile.imwrite(held, marked, metadata=None)
    return held.getvalue()


def request(number: int) -> InspectionRequest:
    names = {"capture_id": f"c{number}", "idempotency_key": f"k{number}", "serial": f"S{number}"}
    return InspectionRequest(station="xray-1", product="KN-42", **names)


if __name__ == "__main__":
    sys.exit(main())
