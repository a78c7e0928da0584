"""Hit and miss against size: the curve, its 90 % size with a bound, and its picture.

    sizes, hits -> logistic curve over the logarithm of the size -> a90, a90/95 -> SVG

MIL-HDBK-1823A (2009), appendix G: logit link, log size, maximum likelihood; a90/95 by the ratio of
likelihoods, where twice its logarithm is 3.841. Its example 3 (134 cracks, p. 123) comes out: a90
0.17336, a90/95 0.21058 (printed 0.2106). Where false calls hit pores that nobody sees the curve
rises from their rate, not from 0: without that floor a few tiny hits make it flat.
"""

from __future__ import annotations

import math

import numpy as np

CHI_SQUARE = 3.841
STEEPEST = 200.0
GOLDEN = (math.sqrt(5) - 1) / 2
INK = {
    "package": "#1b5e9e",
    "matched": "#2e7d32",
    "blind": "#8a6d1b",
    "rose": "#b23b3b",
    "rose, skin": "#c98080",
}
WIDTH, HEIGHT, LEFT, TOP = 560, 300, 48, 16


def rising(line: np.ndarray, floor: float) -> np.ndarray:
    """floor + (1 - floor) / (1 + exp(-line))."""
    return floor + (1 - floor) / (1 + np.exp(-np.clip(line, -500, 500)))


def odds_90(floor: float) -> float:
    """The line where the rate is 0.9."""
    return math.log((0.9 - floor) / 0.1)


def fitted(sizes: np.ndarray, hits: np.ndarray, floor: float) -> tuple[float, float]:
    """(a90, slope) of rising(odds_90 + slope log(size / a90)); a90 in the sizes' unit.

    Where hits and misses do not overlap there is no most likely slope: it stops at a steep one.
    """
    x = np.log(sizes)
    middle = float(np.log(sizes).mean())
    beta = np.array([0.0, 1.0])
    design = np.stack([np.ones_like(x), x - middle], axis=1)
    for _ in range(200):  # Fisher's scoring
        chance = np.clip(rising(design @ beta, floor), 1e-12, 1 - 1e-12)
        slope = (chance - floor) * (1 - chance) / (1 - floor)
        each = slope / (chance * (1 - chance))
        curve = design.T @ (design * (slope * each)[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curve, design.T @ (each * (hits - chance)))
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        beta = beta + step
        if np.abs(step).max() < 1e-9 or beta[1] > STEEPEST:
            break
    if beta[1] <= 0:
        return math.inf, 0.0  # larger ones are not found more often
    a90 = math.exp(min((odds_90(floor) - beta[0]) / beta[1] + middle, 50.0))
    return a90, float(beta[1])


def likelihood(sizes: np.ndarray, hits: np.ndarray, a90: float, floor: float) -> float:
    """The largest log-likelihood of all curves through this a90."""
    x = np.log(sizes / a90)

    def of(slope: float) -> float:
        chance = np.clip(rising(odds_90(floor) + slope * x, floor), 1e-12, 1 - 1e-12)
        return float(np.log(np.where(hits > 0, chance, 1 - chance)).sum())

    low, high = 0.0, math.log(STEEPEST)
    for _ in range(60):  # golden section
        a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, b) if of(math.exp(a)) > of(math.exp(b)) else (a, high)
    return of(math.exp(low))


def upper(sizes: np.ndarray, hits: np.ndarray, a90: float, floor: float) -> float:
    """a90/95: how large a90 may be, at the ratio of likelihoods; infinity where nothing bounds."""
    if not math.isfinite(a90):
        return math.inf
    most = likelihood(sizes, hits, a90, floor)
    low, high = a90, 20 * a90
    if 2 * (most - likelihood(sizes, hits, high, floor)) < CHI_SQUARE:
        return math.inf
    for _ in range(40):
        middle = math.sqrt(low * high)
        if 2 * (most - likelihood(sizes, hits, middle, floor)) < CHI_SQUARE:
            low = middle
        else:
            high = middle
    return high


def crossing(sizes: np.ndarray, values: np.ndarray, wanted: float) -> float:
    """The size at which a smooth rising function of it has this value: a line through logarithms.

    NaN where none of the sizes comes near it.
    """
    x, y = np.log(sizes.ravel()), np.log(np.maximum(values.ravel(), 1e-9))
    near = np.abs(y - math.log(wanted)) < 0.4
    if np.count_nonzero(near) < 3:
        return math.nan
    level, slope = np.polynomial.polynomial.polyfit(x[near], y[near], 1)
    return math.exp((math.log(wanted) - level) / slope)


def drawn(
    curves: dict[str, dict[str, float]], rates: list[tuple[float, int, int]], floor: float
) -> str:
    """SVG: a curve for each reader, Rose's size as a line, the package's rates with 95 % bars.

    Args:
        curves: by reader: a90_mm and slope.
        rates: (middle of the bin in mm, hits, sites) of the package.
        floor: that the curves rise from.
    """
    low, high = math.log(0.12), math.log(2.0)

    def at(size: float, rate: float) -> str:
        across = (math.log(size) - low) / (high - low)
        return f"{LEFT + WIDTH * across:.1f},{TOP + HEIGHT * (1 - rate):.1f}"

    pieces = []
    for rate in (0.0, 0.5, 0.9, 1.0):
        y = TOP + HEIGHT * (1 - rate)
        pieces.append(f'<path d="M{LEFT} {y}h{WIDTH}" stroke="#ddd"/>')
        pieces.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{rate:.0%}</text>')
    for size in (0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5):
        x = at(size, 0).split(",")[0]
        pieces.append(f'<text x="{x}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{size:g}</text>')
    sizes = np.exp(np.linspace(low, high, 80))
    for number, (name, curve) in enumerate(curves.items()):
        ink, a90 = INK[name], curve["a90_mm"]
        if name.startswith("rose"):
            pieces.append(f'<path d="M{at(a90, 0)}V{TOP}" stroke="{ink}" stroke-dasharray="5 3"/>')
        elif math.isfinite(a90):
            rate = rising(odds_90(floor) + curve["slope"] * np.log(sizes / a90), floor)
            points = " ".join(at(*each) for each in zip(sizes.tolist(), rate.tolist(), strict=True))
            pieces.append(f'<polyline points="{points}" fill="none" stroke="{ink}"/>')
        y = TOP + HEIGHT - 84 + 16 * number
        words = f"{name}: {a90:.2f} mm" if math.isfinite(a90) else f"{name}: none"
        pieces.append(f'<text x="{LEFT + WIDTH - 130}" y="{y}" fill="{ink}">{words}</text>')
    for size, hits, sites in rates:
        rate, half = wilson(hits, sites)
        ends = f"M{at(size, min(rate + half, 1))}L{at(size, max(rate - half, 0))}"
        pieces.append(f'<path d="{ends}" stroke="{INK["package"]}"/>')
        x, y = at(size, hits / sites).split(",")
        pieces.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{INK["package"]}"/>')
    title = "Hit rate against pore diameter in mm"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 70} {HEIGHT + 48}" '
        f'role="img" font-family="sans-serif" font-size="12"><title>{title}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(pieces)}</svg>\n'
    )


def wilson(hits: int, sites: int) -> tuple[float, float]:
    """Middle and half width of Wilson's 95 % interval."""
    z = 1.959964
    share, z2 = hits / sites, z * z / sites
    half = z * math.sqrt(share * (1 - share) / sites + z2 / (4 * sites)) / (1 + z2)
    return (share + z2 / 2) / (1 + z2), half
