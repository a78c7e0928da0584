"""Probability of detection: hit rate against pore diameter, beside two computed yardsticks.

    python benchmarks/castings/pod.py --package DIR --calibration FILE.npz [--castings 120]

Round gas pores of known diameter lie in the thin zone (8 mm of plate, pitch 0.1 mm), at four sites
of each of so many castings; as many castings have none. All readers see the same pixels. A reader's
number for a site is the most that it sees within 1 mm, and it calls what exceeds the number of 98 %
of the sites without a pore: the same false-call rate for all.

    package   the evidence map, as it is served
    matched   given the true background, skin included, and the pore's true picture: its correlation
              with what is left, over all places within 1 mm. Nobody knows that much: the bound.
    Rose      CNR of 3 (Rose 1948): the pore's mean contrast over its picture is three times the
              noise of a pixel, skin included, for nobody knows it. No draw: a diameter.

a90 is where a logistic curve over log diameter reaches 0.9 (MIL-HDBK-1823A, section G.3).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from inspection.detector.calibration import read_calibration  # noqa: E402
from inspection.engines.openvino import OpenVinoEngine  # noqa: E402
from inspection.frame import Frame  # noqa: E402
from inspection.package import load_package  # noqa: E402
from inspection.recipe import prepare  # noqa: E402
from training.simulation import casting  # noqa: E402
from training.simulation.defects import Body, Defect, missing_mm  # noqa: E402
from training.simulation.physics import Beam, Detector, blur  # noqa: E402

SITES = [(20.3 * math.cos(a), 20.3 * math.sin(a)) for a in map(math.radians, (20, 150, 180, 275))]
SMALLEST_MM, LARGEST_MM = 0.12, 1.0
NEAR_MM, PITCH_MM = 1.0, 0.1
FALSE_CALLS = 0.02
SEED = 77
BINS_MM = (0.12, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--castings", type=int, default=120, help="with pores; as many without")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    options = parser.parse_args()
    package = load_package(options.package)
    flat = read_calibration(options.calibration).flat
    engine = OpenVinoEngine.for_package(package)
    beam, detector = Beam(), Detector()
    sizes: list[float] = []
    seen: dict[str, list[float]] = {"package": [], "matched": []}
    blank: dict[str, list[float]] = {"package": [], "matched": []}
    noise: list[float] = []
    for number in range(2 * options.castings):
        rng = np.random.default_rng([SEED, number])
        holed = number % 2 == 0
        diameters = np.exp(rng.uniform(np.log(SMALLEST_MM), np.log(LARGEST_MM), len(SITES)))
        whole = part(rng)
        shadow = pores(diameters, detector)
        clean = beam.signal(whole, PITCH_MM)
        change = beam.signal(np.maximum(whole - shadow, 0), PITCH_MM) - clean
        image = detector.expose(clean + change * holed, beam.quanta, rng, drift=0.0)
        frame = Frame(pixels=image, sha256="0" * 64, media_type="image/tiff")
        evidence = engine.infer([prepare(frame, package.recipe, flat)])[0].evidence.max(axis=0)
        level = flat.corrected(image) / flat.level - blur(clean, detector.blur_mm / PITCH_MM)
        picture = blur(change, detector.blur_mm / PITCH_MM)
        numbers = {
            "package": [near(evidence, at) for at in SITES],
            "matched": [matched(level, picture, at) for at in SITES],
        }
        for reader, values in numbers.items():
            (seen if holed else blank)[reader] += values
        if holed:
            sizes += diameters.tolist()
        else:
            noise += [float(np.std(skin(flat.corrected(image) / flat.level, at))) for at in SITES]
    found = {reader: pod(sizes, seen[reader], blank[reader]) for reader in seen}
    found["rose"] = {"a90_mm": rose(beam, detector, float(np.median(noise)))}
    found["sites"] = {"with a pore": len(sizes), "without": len(blank["package"])}
    ours, bound, reader = (found[each]["a90_mm"] for each in ("package", "matched", "rose"))
    found["ratios"] = {"to the bound": round(ours / bound, 3), "to Rose": round(ours / reader, 3)}
    text = json.dumps(found, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


def part(rng: np.random.Generator) -> np.ndarray:
    """(H, W) mm of a casting without defects."""
    features = casting.as_cast(casting.knuckle(), rng)
    whole = casting.thickness(features, casting.Pose(), (1024, 1024), PITCH_MM)
    return casting.roughen(whole, PITCH_MM, rng)


def pores(diameters: np.ndarray, detector: Detector) -> np.ndarray:
    """(H, W) mm that a round pore at each site takes away."""
    shadow = np.zeros(detector.size_px, np.float32)
    for diameter, (x, y) in zip(diameters.tolist(), SITES, strict=True):
        at, half = (x, y, 0.0), diameter / 2
        body = Body(at_mm=at, half_axes_mm=(half, half, half))
        defect = Defect(defect_class="gas-porosity", at_mm=at, size_mm=diameter, bodies=(body,))
        missing, rows, columns = missing_mm(
            defect, casting.Pose(), detector.size_px, detector.pitch_mm
        )
        shadow[rows, columns] += missing
    return shadow


def middle(at: tuple[float, float], scale: float) -> tuple[int, int]:
    """(row, column) of a site in a map with pixels of `scale` mm."""
    x, y = at
    return (
        round((y + 51.2) / scale - 0.5),
        round((x + 51.2) / scale - 0.5),
    )


def near(evidence: np.ndarray, at: tuple[float, float]) -> float:
    """The strongest evidence within 1 mm."""
    scale = 102.4 / len(evidence)
    row, column = middle(at, scale)
    reach = round(NEAR_MM / scale)
    cut = evidence[row - reach : row + reach + 1, column - reach : column + reach + 1]
    return float(cut.max())


def matched(level: np.ndarray, picture: np.ndarray, at: tuple[float, float]) -> float:
    """The best correlation of what is left of the site with the pore's picture, in its noise."""
    row, column = middle(at, PITCH_MM)
    half, reach = 8, round(NEAR_MM / PITCH_MM)
    template = picture[row - half : row + half + 1, column - half : column + half + 1]
    wide = half + reach
    cut = level[row - wide : row + wide + 1, column - wide : column + wide + 1]
    answer = cv2.matchTemplate(cut.astype(np.float32), template.astype(np.float32), cv2.TM_CCORR)
    return float(answer.max() / np.linalg.norm(template))


def skin(level: np.ndarray, at: tuple[float, float]) -> np.ndarray:
    """The site's pixels less their slow part: quantum noise and skin."""
    row, column = middle(at, PITCH_MM)
    cut = level[row - 15 : row + 16, column - 15 : column + 16]
    return np.asarray(cut - cv2.GaussianBlur(cut, (0, 0), 6.0))


def pod(sizes: list[float], seen: list[float], blank: list[float]) -> dict[str, object]:
    """a90, and hit rates by diameter, at the common false-call rate."""
    limit = np.quantile(blank, 1 - FALSE_CALLS)
    hits = (np.array(seen) > limit).astype(float)
    x = np.log(np.array(sizes))
    design = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    beta = np.zeros(2)
    for _ in range(60):  # Newton, with a weak pull towards 0 for readers that separate
        chance = 1 / (1 + np.exp(-design @ beta))
        weight = chance * (1 - chance)
        curve = design.T @ (design * weight[:, None]) + 1e-2 * np.eye(2)
        beta = beta + np.linalg.solve(curve, design.T @ (hits - chance) - 1e-2 * beta)
    a90 = float(np.exp((math.log(9) - beta[0]) / beta[1] + x.mean()))
    place = np.digitize(sizes, BINS_MM)
    rates = {
        f"{BINS_MM[k - 1]}..{BINS_MM[k]} mm": f"{int(hits[place == k].sum())}/{(place == k).sum()}"
        for k in range(1, len(BINS_MM))
    }
    return {"a90_mm": round(a90, 4), "hits": rates}


def rose(beam: Beam, detector: Detector, noise: float) -> float:
    """The diameter whose mean contrast over its picture is three times the noise of a pixel."""
    whole = np.full((64, 64), casting.PLATE_MM, np.float32)
    sigma = math.hypot(beam.focal_blur_mm, detector.blur_mm) / PITCH_MM
    for diameter in np.arange(0.1, 2.0, 0.005):
        axis = (np.arange(64) - 31.5) * PITCH_MM
        path = 2 * np.sqrt(np.maximum((diameter / 2) ** 2 - axis**2 - axis[:, None] ** 2, 0))
        before = beam.transmission(whole)
        change = blur(beam.transmission(whole - path.astype(np.float32)) - before, sigma)
        over = change >= 0.3 * change.max()
        if change.max() > 0 and float(change[over].mean()) >= 3 * noise:
            return round(float(diameter), 4)
    return math.inf


if __name__ == "__main__":
    main()
