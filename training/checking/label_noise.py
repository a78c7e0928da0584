"""Labels that the images speak against: confident learning on scores out of the fold.

    fit and calibration images -> frozen features -> grouped folds -> logistic regression
        -> probability of each label from a model that never saw the image's group -> cleanlab

The test side of the split that training would take is left out: who corrects its labels by a
model's opinion measures how well the model agrees with itself.

Of a group that it has not seen, a model may doubt every label: it does not know the group. Where
the doubts take a good part of a group, they say that it is unlike the rest, and no more.

    Northcutt, Jiang, Chuang 2021: Confident learning: estimating uncertainty in dataset labels,
        Journal of Artificial Intelligence Research 70, 1373-1411.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import DataError, DataLeak
from training.checking.findings import Case, Finding
from training.data.rows import GOOD, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from training.dividing.duplicates import Pair
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

SIZE_PX = (224, 224)  # enough to tell which labels are odd, at half the time of training's 300
FOLDS = 5
LEAST = 5  # images and groups that a label needs to be learnt from
COMPONENTS = 100
DOUBTED = 1 / 3  # share of a group's images, from which on the group is unlike the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseCheck:
    """What was looked at, in words, and what was found."""

    said: str
    findings: tuple[Finding, ...] = ()


def find_label_noise(
    manifest: Manifest,
    usable: Sequence[bool],
    pairs: Sequence[Pair],
    *,
    size_px: tuple[int, int] = SIZE_PX,
    progress: Progress,
) -> NoiseCheck:
    """Images whose label is unlikely by models that were fitted on other groups.

    Args:
        manifest: the set.
        usable: (N,) whether the row's image can be read and fits the set's recipe.
        pairs: images that are one exposure twice; they stay in one fold.
        size_px: (height, width) that the features are taken at.
        progress: told of the features.
    """
    found = _training_side(manifest, pairs)
    if isinstance(found, str):
        return NoiseCheck(said=found)
    side, where = found
    labels = [";".join(row.defects) or GOOD for row in manifest.rows]
    units = _units(manifest, pairs)
    rows = [i for i in side if usable[i]]
    common = _learnable(rows, labels, units)
    rows = [i for i in rows if labels[i] in common]
    if len(common) < 2:
        return NoiseCheck(
            said="not looked for: it takes two labels, each with "
            f"{LEAST} training images in {LEAST} groups"
        )
    features = _features(manifest, rows, size_px, progress)
    names = sorted(common)
    wanted = np.array([names.index(labels[i]) for i in rows])
    scores = _out_of_fold(features, wanted, units[rows], len(names))
    said = f"{counted(len(rows), 'image')} {where}; {FOLDS} folds by group, features of the "
    said += "preset fast"
    left_out = sorted(set(labels) - common)
    if left_out:
        said += f"; too few images of {', '.join(left_out)} to tell"
    cases = _cases(manifest, rows, names, wanted, scores)
    return NoiseCheck(said=said, findings=_findings(cases, rows, units))


def _findings(
    cases: Sequence[Case], rows: Sequence[int], units: NDArray[np.int64]
) -> tuple[Finding, ...]:
    """The doubts about single labels, and those about whole groups."""
    images = Counter(int(units[i]) for i in rows)
    doubts = Counter(int(units[case.rows[0]]) for case in cases)
    unlike = {
        unit for unit, count in doubts.items() if count >= LEAST and count >= DOUBTED * images[unit]
    }
    single = tuple(case for case in cases if int(units[case.rows[0]]) not in unlike)
    whole = [case for case in cases if int(units[case.rows[0]]) in unlike]
    looked = sum(images[unit] for unit in unlike)
    made = (
        Finding(
            severity="warning",
            code="label-noise",
            text=f"{counted(len(single), 'label')} that the images speak against, of {len(rows)} "
            "training images looked at.",
            remedy="Look at the worst first and fill in new_label in review.csv where the label is "
            "wrong; leave it empty where it is right. This is a model's opinion, not a verdict.",
            cases=single,
        ),
        Finding(
            severity="note",
            code="unlike-the-rest",
            text=f"{counted(len(unlike), 'group')} unlike the rest: models that never saw them "
            f"doubt {len(whole)} of the {looked} labels in them.",
            remedy="Look at a few: if they are right, nothing is to be done, but the model will be "
            "weak on such parts until it has seen more of them. If the group was labelled by "
            "another rule, let it be read again.",
            cases=tuple(Case(rows=case.rows, said=case.said) for case in whole),
        ),
    )
    return tuple(finding for finding in made if finding.cases)


def _training_side(manifest: Manifest, pairs: Sequence[Pair]) -> tuple[list[int], str] | str:
    """The rows that may be looked at, and which these are in words; or why there are none."""
    from training.dividing.saved_split import saved_split
    from training.dividing.split_file import split_from_file
    from training.split import split

    saved = saved_split(manifest)
    if saved is not None and saved[1].folds:
        return "not looked for: every fold of the saved split is tested once, so none may be read"
    try:
        made = (
            split(manifest, seed=0, pairs=pairs)
            if saved is None
            else split_from_file(saved[0], manifest, group_by=saved[1].group_by, pairs=pairs)
        )
    except (DataError, DataLeak) as error:
        if saved is not None:
            return f"not looked for: the saved split does not hold ({error})"
        return list(range(len(manifest.rows))), "(all: the set is too small to be divided)"
    rows = np.concatenate([made.fit, made.calibrate])
    which = "the saved split" if saved is not None else "the split of seed 0"
    where = f"of the sides fit and calibrate of {which}; the test side was left out"
    return sorted(rows.tolist()), where


def _units(manifest: Manifest, pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """(N,) what each row stays in one fold with."""
    from training.dividing.grouping import choose_grouping, find_units

    return find_units(manifest, choose_grouping(manifest, None), pairs, whole=False).of_row


def _learnable(rows: Sequence[int], labels: Sequence[str], units: NDArray[np.int64]) -> set[str]:
    images = Counter(labels[i] for i in rows)
    groups = {name: len({int(units[i]) for i in rows if labels[i] == name}) for name in images}
    return {name for name in images if min(images[name], groups[name]) >= LEAST}


def _features(
    manifest: Manifest, rows: Sequence[int], size_px: tuple[int, int], progress: Progress
) -> NDArray[np.float32]:
    """(n, 2 C) mean and maximum over the cells of the frozen backbone."""
    from training.data.images import PreparedImages
    from training.fit import FitSettings
    from training.fitting.features import extract_features
    from training.recipe_for import recipe_for

    recipe = recipe_for(manifest, input_size_px=size_px)
    settings = FitSettings(
        input_size_px=recipe.input_size_px, window=recipe.window, channels=recipe.channels
    )
    images = PreparedImages(manifest, recipe, rows)
    cells = extract_features(images, settings, progress=progress).cells
    mean = cells.mean(axis=(1, 2), dtype=np.float32)
    return np.concatenate([mean, cells.max(axis=(1, 2)).astype(np.float32)], axis=1)


def _out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    units: NDArray[np.int64],
    classes: int,
) -> NDArray[np.float64]:
    """(n, K) probability of each label, from a model that saw nothing of the row's group."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.full((len(labels), classes), 1e-6)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for fit, test in folds.split(features, labels, units):
        if len(set(labels[fit].tolist())) < 2 or not len(test):
            scores[test] = 1 / classes
            continue
        model = make_pipeline(
            StandardScaler(),
            PCA(min(COMPONENTS, len(fit) // 2, features.shape[1]), random_state=0),
            LogisticRegression(C=0.05, max_iter=1000),
        )
        model.fit(features[fit], labels[fit])
        scores[np.ix_(test, model[-1].classes_)] = model.predict_proba(features[test])
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def _cases(
    manifest: Manifest,
    rows: Sequence[int],
    names: Sequence[str],
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> tuple[Case, ...]:
    from cleanlab.filter import find_label_issues

    ranked = find_label_issues(labels, scores, return_indices_ranked_by="self_confidence", n_jobs=1)
    cases = []
    for i in ranked.tolist():
        row = manifest.rows[rows[i]]
        likely = names[int(scores[i].argmax())]
        said = f"{names[labels[i]]}: {scores[i, labels[i]]:.0%}, {likely}: {scores[i].max():.0%}"
        if row.probability is not None and 0 < row.probability < 1:
            said += f"; the annotators were not sure ({row.probability:.2f} that it is bad)"
        cases.append(Case(rows=(rows[i],), said=said, suggested=likely))
    return tuple(cases)
