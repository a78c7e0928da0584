"""The check of a set, from its files to its labels.

files -> copies -> classes -> annotators -> label noise -> findings, worst first
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.checking.annotators import find_disagreement
from training.checking.classes import find_rare_classes, measurable
from training.checking.copies import find_copies
from training.checking.files import find_broken, find_outliers, look_at_files
from training.checking.findings import Check, worst_first
from training.checking.label_noise import SIZE_PX, find_label_noise
from training.dividing.duplicates import find_likenesses

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]


def check_set(
    manifest: Manifest,
    *,
    quick: bool = False,
    size_px: tuple[int, int] = SIZE_PX,
    progress: Progress,
) -> Check:
    """Everything that is wrong with a set, or worth a look.

    Args:
        manifest: the set; files may be missing.
        quick: leave out the label noise, which takes a network and minutes.
        size_px: (height, width) that the features for the label noise are taken at.
        progress: told of every stage.
    """
    looks = look_at_files(manifest, progress)
    pairs = find_likenesses(manifest, progress).pairs
    findings = [
        *find_broken(looks),
        *find_copies(manifest, pairs),
        *find_outliers(manifest, looks),
        *find_rare_classes(manifest),
        *find_disagreement(manifest),
    ]
    kind = (manifest.images.bits, manifest.images.channels)
    usable = [not look.fault and not look.altered and look.kind[:2] == kind for look in looks]
    if quick:
        labels = "not looked at (--quick)"
    elif not manifest.classes:
        labels = "not looked at: the set has good parts only"
    else:
        noise = find_label_noise(manifest, usable, pairs, size_px=size_px, progress=progress)
        labels = noise.said
        findings += noise.findings
    counts = manifest.counts()
    facts = (
        ("data set", f"{manifest.reference}, product {manifest.product}"),
        (
            "images",
            f"{counts['images']}, in {counts['parts']} parts and {counts['groups']} groups",
        ),
        ("labels", ", ".join(f"{name} {n}" for name, n in manifest.label_counts().items())),
        ("measurable", measurable(manifest)),
        ("label noise", labels),
        ("calibration", manifest.calibration.digest if manifest.calibration else "none"),
        ("digest", manifest.digest),
    )
    return Check(manifest=manifest, facts=facts, findings=worst_first(findings))
