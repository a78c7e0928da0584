from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from inspection.engines.network import InspectionNetwork, pool_evidence
from inspection.errors import ConfigurationError, InputError
from training.fit import FeatureCache, FitResult, FitSettings, extract_features, fit
from training.fit_full import variations

SIZE_PX = (96, 96)
FAST = FitSettings(
    preset="fast",
    seed=11,
    input_size_px=SIZE_PX,
    window=(0.0, 255.0),
    flips=("horizontal", "vertical", "rot90"),
    components=64,
    hidden=32,
    epochs=12,
    batch=8,
    threads=1,
)


class Pictures:
    """Woven grey plates; some have a dark scratch."""

    def __init__(self, count: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        rows, columns = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]]
        self.held: list[NDArray[np.float32]] = []
        self.labels = np.zeros((count, 1), np.float32)
        for index in range(count):
            plate = 130 + 15 * np.sin(rows / 3 + generator.uniform(0, 6)) * np.cos(columns / 4)
            plate = plate + generator.normal(0, 6, SIZE_PX)
            if index % 2:
                slope, start = generator.uniform(-0.4, 0.4), generator.uniform(25, 70)
                plate[abs(rows - start - slope * (columns - 48)) < 2] -= 70
                self.labels[index] = 1
            self.held.append(plate.clip(0, 255).astype(np.float32)[np.newaxis])
        self.groups = [f"lot-{index // 4}" for index in range(count)]

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int, /) -> NDArray[np.float32]:
        return self.held[index]


def answers(
    network: InspectionNetwork, images: list[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with torch.no_grad():
        score, evidence, novelty = network(torch.from_numpy(np.stack(images)))
    assert torch.equal(pool_evidence(evidence, network.architecture.sharpness), score)
    return score.numpy(), novelty.numpy()


def auc(network: InspectionNetwork, pictures: Pictures) -> float:
    score, _ = answers(network, pictures.held)
    return float(roc_auc_score(pictures.labels[:, 0], score[:, 0]))


def same_weights(one: InspectionNetwork, other: InspectionNetwork) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures(64, seed=1)


@pytest.fixture(scope="module")
def others() -> Pictures:
    return Pictures(40, seed=2)


@pytest.fixture(scope="module")
def fitted(pictures: Pictures) -> FitResult:
    return fit(pictures, pictures.labels, pictures.groups, FAST)


def test_the_fast_preset_learns_and_says_what_it_did(fitted: FitResult, others: Pictures) -> None:
    assert auc(fitted.network, others) > 0.9
    assert not fitted.network.training
    assert {"features", "whitening", "head", "novelty"} <= fitted.seconds.keys()
    losses = [float(entry["loss"]) for entry in fitted.history]
    assert len(losses) == FAST.epochs
    assert losses[-1] < losses[0]


@pytest.fixture(scope="module")
def cache() -> FeatureCache:
    stages = []
    cache = extract_features(
        Pictures(80, seed=1),
        FAST,
        progress=lambda stage, done, total: stages.append((stage, done, total)),
    )
    assert stages[-1] == ("features", 80, 80)
    return cache


def test_the_same_again_gives_the_same_weights_and_cached_features_too(
    fitted: FitResult, pictures: Pictures, cache: FeatureCache
) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    held = cache.take(np.arange(64))
    again = fit(pictures, pictures.labels, pictures.groups, FAST, features=held)
    assert same_weights(again.network, fitted.network)
    assert torch.equal(torch.get_rng_state(), before)
    seeded = replace(FAST, seed=12)
    other = fit(pictures, pictures.labels, pictures.groups, seeded, features=held)
    assert not same_weights(other.network, fitted.network)


def test_other_kinds_of_picture_are_novel(fitted: FitResult, others: Pictures) -> None:
    _, usual = answers(fitted.network, others.held)
    generator = np.random.default_rng(4)
    cat = cv2.resize(skimage.data.chelsea().mean(2), SIZE_PX)  # type: ignore[no-untyped-call]
    strange = {
        "noise": generator.uniform(0, 255, SIZE_PX),
        "constant": np.full(SIZE_PX, 130.0),
        "a cat": cat,
    }
    _, novelty = answers(
        fitted.network, [one[np.newaxis].astype(np.float32) for one in strange.values()]
    )
    assert (novelty > 1.5 * usual.max()).all(), dict(zip(strange, novelty, strict=True))


def test_several_classes_each_get_a_map_of_their_own(
    pictures: Pictures, cache: FeatureCache
) -> None:
    labels = np.hstack([pictures.labels, 1 - pictures.labels])
    held = cache.take(range(64))
    network = fit(pictures, labels, pictures.groups, FAST, features=held).network
    score, _ = answers(network, pictures.held)
    assert score.shape == (64, 2)
    assert roc_auc_score(labels[:, 1], score[:, 1]) > 0.9


def test_the_full_preset_tunes_everything_and_keeps_the_map(
    fitted: FitResult, others: Pictures, cache: FeatureCache
) -> None:
    few = Pictures(32, seed=1)
    settings = replace(FAST, preset="full", full_epochs=2, full_batch=8, averaging=0.5)
    tuned, again = (
        fit(few, few.labels, few.groups, settings, features=cache.take(range(32))) for _ in range(2)
    )
    assert same_weights(tuned.network, again.network)
    assert auc(tuned.network, others) > 0.8
    losses = [float(one["loss"]) for one in tuned.history if one["stage"] == "fine-tuning"]
    assert losses[-1] < losses[0]
    stem = next(tuned.network.trunk.taps.parameters())
    assert not torch.equal(stem, next(fitted.network.trunk.taps.parameters()))


def test_variations_follow_the_seed_and_stay_in_the_window() -> None:
    image = Pictures(1, seed=3).held[0]
    settings = replace(FAST, window=(100.0, 150.0))
    first, same, other = (
        variations(replace(settings, seed=seed)) for seed in (settings.seed, settings.seed, 12)
    )
    for _ in range(3):
        made = first(image)
        assert made.shape == image.shape
        assert made.dtype == np.float32
        assert 100 <= made.min() < made.max() <= 150
        assert not np.array_equal(made, image.clip(100, 150))
        assert np.array_equal(made, same(image))
        assert not np.array_equal(made, other(image))


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "quick"},
        {"seed": -1},
        {"flips": ("sideways",)},
        {"flips": ("rot90",), "input_size_px": (96, 128)},
        {"window": (10.0, 10.0)},
        {"channels": 2},
        {"epochs": 0},
        {"dropout": 1.0},
        {"learning_rate": float("nan")},
        {"heads": 3, "hidden": 32},
        {"threads": 0},
    ],
    ids=str,
)
def test_settings_without_sense_cannot_be_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        replace(FAST, **wrong)  # type: ignore[arg-type]


def test_targets_that_do_not_fit_are_refused(pictures: Pictures) -> None:
    labels, groups = pictures.labels, pictures.groups
    for wrong in (labels[:, 0], labels[:-1], labels * 2, labels * np.nan, labels * 0):
        with pytest.raises(InputError):
            fit(pictures, wrong, groups, FAST)
    with pytest.raises(InputError):
        fit(pictures, labels, groups[:-1], FAST)


def test_features_of_something_else_are_refused(pictures: Pictures, cache: FeatureCache) -> None:
    few = Pictures(4, seed=3)
    with pytest.raises(ConfigurationError, match="features"):
        fit(few, few.labels, few.groups, FAST, features=cache)
    other = replace(FAST, window=(0.0, 99.0))
    with pytest.raises(ConfigurationError, match="features"):
        fit(pictures, pictures.labels, pictures.groups, other, features=cache.take(range(64)))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 96, 50), np.float32), np.full((1, *SIZE_PX), np.nan, np.float32)],
    ids=["another size", "not a number"],
)
def test_an_image_that_does_not_fit_is_named(wrong: NDArray[np.float32]) -> None:
    few = Pictures(4, seed=3)
    few.held[2] = wrong
    with pytest.raises(InputError, match="image 2"):
        fit(few, few.labels, few.groups, replace(FAST, backbone="resnet10t", pretrained=False))
