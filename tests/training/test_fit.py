from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from inspection.engines.network import (
    InspectionNetwork,
    export_onnx,
    load_network,
    pool_evidence,
    save_network,
)
from inspection.errors import ConfigurationError, InputError
from training.fit import FeatureCache, FitResult, FitSettings, extract_features, fit

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


def full(pictures: Pictures, cache: FeatureCache, **changes: object) -> FitResult:
    settings = replace(FAST, preset="full", full_epochs=2, full_batch=8, full_averaging=0.5)
    held = cache.take(range(len(pictures)))
    settings = replace(settings, **changes)  # type: ignore[arg-type]
    return fit(pictures, pictures.labels, pictures.groups, settings, features=held)


def test_the_full_preset_tunes_a_copy_beside_the_frozen_stages(
    others: Pictures, cache: FeatureCache
) -> None:
    few = Pictures(40, seed=1)
    tuned, again = full(few, cache), full(few, cache)
    assert same_weights(tuned.network, again.network)
    assert auc(tuned.network, others) > 0.9
    taps, copied = tuned.network.trunk.taps, tuned.network.trunk.tuned
    assert copied is not None
    frozen = taps.stages[4].state_dict().values()
    assert not all(
        torch.equal(a, b) for a, b in zip(copied[0].state_dict().values(), frozen, strict=True)
    )
    assert tuned.unseen is not None
    assert 0 < len(tuned.unseen.rows) < 20
    assert roc_auc_score(few.labels[tuned.unseen.rows], tuned.unseen.scores) > 0.8


def test_without_frozen_stages_the_whole_backbone_is_tuned(
    fitted: FitResult, others: Pictures, cache: FeatureCache
) -> None:
    few = Pictures(32, seed=1)
    tuned = full(few, cache, full_frozen=0).network
    assert auc(tuned, others) > 0.8
    stem = next(tuned.trunk.taps.parameters())
    assert not torch.equal(stem, next(fitted.network.trunk.taps.parameters()))


def test_the_network_is_the_same_after_it_was_saved_and_loaded_and_in_onnx(
    others: Pictures, cache: FeatureCache, tmp_path: Path
) -> None:
    network = full(Pictures(32, seed=1), cache, full_epochs=1).network
    assert network.context is not None
    save_network(network, tmp_path / "model.safetensors")
    export_onnx(network, tmp_path / "model.onnx")
    block = np.stack(others.held[:4])
    score, evidence, novelty = network(torch.from_numpy(block))
    loaded = load_network(tmp_path / "model.safetensors")
    assert torch.equal(loaded(torch.from_numpy(block))[1], evidence)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for wanted, answer in zip(
        (score, evidence, novelty), session.run(None, {"image": block}), strict=True
    ):
        assert np.allclose(answer, wanted.detach().numpy(), atol=2e-3)


def test_the_context_of_an_image_lies_on_every_cell_of_its_map_alike(
    fitted: FitResult, others: Pictures
) -> None:
    network = fitted.network
    assert network.context is not None
    with torch.no_grad():
        features = network.trunk(torch.from_numpy(np.stack(others.held[:4])))
        context = network.context(features)
        evidence = network.readout(torch.zeros(4, 1, 1, 1), features)[1]
        head = network.head(network.whitening(features))
    assert context.shape == (4, 1, 1, 1)
    assert context.std() > 0.1
    assert torch.allclose(evidence, head + context, atol=1e-5)


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
