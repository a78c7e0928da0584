"""Probability of detection: hit rate against pore diameter, beside computed yardsticks.

    python benchmarks/castings/pod.py --package DIR --calibration FILE.npz [--castings 100]
        [--svg benchmarks/castings/pod.svg] [--out FILE.json]

Round gas pores of known diameter lie in the thin zone (8 mm of plate, pitch 0.1 mm), at ten sites
of each of so many castings; as many castings have none. Every casting has its own tolerances, skin
and pose. All readers see the same pixels. A reader's number for a site is the most that it sees
within 1 mm of its middle, and it calls what exceeds the number of 98 % of the sites without a pore:
the same false-call rate for all, each reader's limit found on the same sites.

    package   the evidence map: prepare() with the detector's calibration, the network, told that
              zones allow nothing; of several classes the one that is surest
    matched   given the true background, skin included, and the pore's true picture: a matched
              filter of the noise's covariance, at every place of the site. Nobody knows that much:
              the bound
    blind     the same filter without the background: it knows the picture and how skins vary, not
              this casting's; what a linear reader of the image alone can do. No target
    Rose      sees a pore whose contrast to noise is 3 (Rose 1948): its mean contrast over its
              picture over the noise of one pixel, as truth.jsonl has it, skin not counted as noise.
              No draw and no false calls: a diameter

Why that is fair: the question is what can be seen, so each reader is asked at the place, and the
limit is its own at one rate of false calls; limits of the product on whole parts say how many small
pores are allowed, which is another question: a network that knows the zones is told that these
allow nothing here. The bound is favoured throughout (true picture, true background), and Rose's
reader by leaving skin out of the noise; `rose, skin` counts it, as measured on the sites without a
pore.

a90 is where a logistic curve over log diameter, rising from the false-call rate, reaches 0.9, with
a90/95 (_pod_fit.py). Ratios have a 95 % interval: castings drawn anew with their sites, limits and
curves made again each time.

Checks: the matched filter's number at the true place, less what theory expects, is 0 on average
with a spread of 1; its a90 by theory alone is where d' is the limit + 1.28.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from _pod_fit import crossing, drawn, fitted, upper  # noqa: E402
from _pod_readers import HALF_PX, Matched, blind_covariance, noise_covariance  # noqa: E402
from _pod_sites import BEAM, DETECTOR, SEED, SITES, cut, exposed  # noqa: E402
from _rebuilt import rebuilt  # noqa: E402

from inspection.detector.calibration import read_calibration  # noqa: E402
from inspection.frame import Frame  # noqa: E402
from inspection.package import load_package  # noqa: E402
from inspection.recipe import prepare  # noqa: E402
from training.simulation.casting import PLATE_MM  # noqa: E402

NEAR_PX = 10
FALSE_CALLS = 0.02
DRAWS = 1000
ROSE_CNR = 3.0
BINS_MM = (0.12, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0, 1.4, 2.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, help="of a trained model, as study.py leaves it")
    parser.add_argument("--calibration", type=Path, help="that study.py made of the detector")
    parser.add_argument("--castings", type=int, default=100, help="with pores; as many without")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    parser.add_argument("--svg", type=Path, help="where the plot goes")
    parser.add_argument("--short", action="store_true", help="eight castings of each kind")
    options = parser.parse_args()
    if options.package is None or options.calibration is None:
        print("not measured: give --package and --calibration, as study.py leaves them")
        return 0
    package = load_package(options.package)
    engine = rebuilt(options.package, nothing_allowed=True, threads=options.threads)
    flat = read_calibration(options.calibration).flat
    signal = float(BEAM.transmission(np.array([PLATE_MM]))[0])
    filters = {
        "matched": Matched(noise_covariance(BEAM, DETECTOR, signal)),
        "blind": Matched(blind_covariance(BEAM, DETECTOR, signal)),
    }
    line = package.document.calibration
    slope, intercept = (np.array(each)[:, None, None] for each in (line.slope, line.intercept))
    shape = (8 if options.short else options.castings, len(SITES))
    of = {name: np.zeros(shape) for name in ("mm", "cnr", "d'", "off", "noise", "true noise")}
    numbers = {name: np.zeros((2, *shape)) for name in ("package", *filters)}
    for number in range(2 * shape[0]):
        row, without = divmod(number, 2)
        made = exposed(number, with_pores=not without)
        frame = Frame(pixels=made.raw, sha256="0" * 64, media_type="image/tiff")
        evidence = engine.infer([prepare(frame, package.recipe, flat)])[0].evidence
        surest = (slope * evidence + intercept).max(axis=0)
        level = flat.corrected(made.raw) / flat.level
        for n, at in enumerate(made.places):
            picture, wide = cut(made.pictures, at, HALF_PX), HALF_PX + NEAR_PX
            plain, rest = cut(level, at, wide), cut(level - made.background, at, wide)
            known = filters["matched"].answer(rest, picture)
            numbers["package"][without, row, n] = near(surest, at)
            numbers["matched"][without, row, n] = known.most
            numbers["blind"][without, row, n] = filters["blind"].answer(plain, picture).most
            if without:
                of["noise"][row, n] = np.std(plain - cv2.GaussianBlur(plain, (0, 0), 6.0))
                of["true noise"][row, n] = np.std(rest)
            else:
                of["mm"][row, n], of["cnr"][row, n] = made.diameters[n], made.cnr[n]
                of["d'"][row, n], of["off"][row, n] = known.d_prime, known.here - known.d_prime
    found = figures(of, numbers)
    print(json.dumps(found, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    if options.svg is not None:
        options.svg.write_text(drawn(found["curves"], found["rates"]["package"], FALSE_CALLS))
    return 0


def figures(of: dict[str, np.ndarray], numbers: dict[str, np.ndarray]) -> dict:
    """All that is said, from (castings, sites) of what was and (2, castings, sites) of numbers."""
    sizes = of["mm"]
    curves, hits = {}, {}
    for name, (seen, blank) in numbers.items():
        hits[name] = (seen > limit_of(blank)).astype(float)
        a90, slope = fitted(sizes.ravel(), hits[name].ravel(), FALSE_CALLS)
        bound = upper(sizes.ravel(), hits[name].ravel(), a90, FALSE_CALLS)
        curves[name] = {"a90_mm": round(a90, 4), "a90/95_mm": round(bound, 4), "slope": slope}
    skin = float(np.median(of["noise"]) / np.median(of["true noise"]))
    for name, wanted in (("rose", ROSE_CNR), ("rose, skin", ROSE_CNR * skin)):
        curves[name] = {"a90_mm": round(crossing(sizes, of["cnr"], wanted), 4)}
    draw = np.random.default_rng(SEED)
    again = []
    for _ in range(DRAWS):
        pick, other = (draw.integers(0, len(sizes), len(sizes)) for _ in range(2))
        a90 = {}
        for name in ("package", "matched"):
            seen, blank = numbers[name]
            found = (seen[pick] > limit_of(blank[other])).astype(float)
            a90[name] = fitted(sizes[pick].ravel(), found.ravel(), FALSE_CALLS)[0]
        again.append((a90["package"] / a90["matched"], a90["package"]))
    low, high = np.percentile(np.array(again), (2.5, 97.5), axis=0)
    ours, bound, rose = (curves[name]["a90_mm"] for name in ("package", "matched", "rose"))
    place = np.digitize(sizes, BINS_MM)
    return {
        "curves": curves,
        "ratios, with 95 % intervals": {
            "package to the bound": rounded(ours / bound, low[0], high[0]),
            "package to Rose": rounded(ours / rose, low[1] / rose, high[1] / rose),
            "the bound to Rose": round(bound / rose, 3),
        },
        "sites with a pore, and without": sizes.size,
        "checks": {
            "matched filter less theory, at the place": round(float(of["off"].mean()), 3),
            "its spread": round(float(of["off"].std()), 3),
            "its a90 by theory, mm": round(
                crossing(sizes, of["d'"], limit_of(numbers["matched"][1]) + 1.2816), 4
            ),
        },
        "rates": {name: rates(place, those) for name, those in hits.items()},
    }


def rates(place: np.ndarray, hits: np.ndarray) -> list[tuple[float, int, int]]:
    """(middle of the bin in mm, hits, sites) of each bin."""
    middles = [round(math.sqrt(a * b), 3) for a, b in pairwise(BINS_MM)]
    those = [hits[place == k] for k in range(1, len(BINS_MM))]
    return [
        (mm, int(each.sum()), each.size)
        for mm, each in zip(middles, those, strict=True)
        if each.size
    ]


def limit_of(blank: np.ndarray) -> float:
    """The number that this share of the sites without a pore exceeds."""
    return float(np.quantile(blank, 1 - FALSE_CALLS))


def rounded(*values: float) -> list[float]:
    return [round(float(each), 3) for each in values]


def near(evidence: np.ndarray, at: tuple[int, int]) -> float:
    """The most of the cells that touch the square of places that the filters search."""
    tall, wide = (
        side / cells for side, cells in zip(DETECTOR.size_px, evidence.shape, strict=True)
    )
    rows = slice(int((at[0] - NEAR_PX) / tall), int((at[0] + NEAR_PX) / tall) + 1)
    columns = slice(int((at[1] - NEAR_PX) / wide), int((at[1] + NEAR_PX) / wide) + 1)
    return float(evidence[rows, columns].max())


if __name__ == "__main__":
    sys.exit(main())
