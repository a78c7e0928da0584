"""Preset `anomaly`: a memory of good parts, from twenty images, through the packaged graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inspection.engines.export import OUTPUTS, export_onnx
from inspection.engines.memory import MemoryHead
from inspection.engines.network import (
    Architecture,
    InspectionNetwork,
    create_network,
    load_network,
    pool_evidence,
    save_network,
)
from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import ConfigurationError, EngineError, InputError
from inspection.recipe import Recipe
from inspection.verdict import decide
from tests.labelled_sets import plate
from training.fit import FitResult, FitSettings, fit
from training.fitting.fit_anomaly import furthest_apart
from training.measuring.operating_point_good import calibrate_good_only, choose_limits_good_only

SIZE_PX = (64, 64)
SETTINGS = FitSettings(
    preset="anomaly",
    seed=5,
    input_size_px=SIZE_PX,
    window=(0.0, 255.0),
    components=64,
    memory=40,
    threads=1,
)
RECIPE = Recipe(
    product="KN-42",
    modality="vision",
    bits=8,
    channels=1,
    input_size_px=SIZE_PX,
    window=(0.0, 255.0),
    classes=("anomaly",),
)


class Plates:
    """Woven grey plates, good ones unless scratched."""

    def __init__(self, count: int, seed: int, *, scratched: bool = False) -> None:
        generator = np.random.default_rng(seed)
        made = [plate(generator, scratched=scratched) for _ in range(count)]
        self.held = [np.pad(one, 8, mode="wrap")[np.newaxis].astype(np.float32) for one in made]

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int, /) -> NDArray[np.float32]:
        return self.held[index]


def fitted_to(plates: Plates, settings: FitSettings = SETTINGS) -> FitResult:
    groups = [f"lot-{index // 5}" for index in range(len(plates))]
    return fit(plates, np.zeros((len(plates), 1), np.float32), groups, settings)


@pytest.fixture(scope="module")
def network() -> InspectionNetwork:
    return fitted_to(Plates(20, seed=1)).network


@pytest.fixture(scope="module")
def engine(network: InspectionNetwork, tmp_path_factory: pytest.TempPathFactory) -> OpenVinoEngine:
    path = tmp_path_factory.mktemp("anomaly") / "model.onnx"
    export_onnx(network, path)
    return OpenVinoEngine(path)


def test_from_twenty_good_images_the_odd_one_goes_to_review_and_good_ones_pass(
    engine: OpenVinoEngine,
) -> None:
    held_out = engine.infer(Plates(30, seed=2).held)
    scores = np.stack([one.scores for one in held_out])
    novelty = np.array([one.novelty for one in held_out])
    calibration = calibrate_good_only(scores, review_budget=0.1).calibration
    point = choose_limits_good_only(
        calibration.probabilities(scores),
        novelty,
        np.arange(len(scores)),
        wanted_escape_rate=0.01,
        review_budget=0.1,
        split_digest="0" * 64,
    ).operating_point

    def dispositions(plates: Plates) -> list[str]:
        return [
            decide(one, calibration, point, RECIPE, (48, 48)).disposition
            for one in engine.infer(plates.held)
        ]

    good = dispositions(Plates(30, seed=3))
    assert set(good) <= {"pass", "review"}
    assert good.count("pass") >= 24
    assert dispositions(Plates(10, seed=4, scratched=True)) == ["review"] * 10


def test_the_map_shows_where_the_scratch_is(engine: OpenVinoEngine) -> None:
    image = Plates(1, seed=7).held[0].copy()
    image[:, 44:52, 4:28] = 20
    evidence = engine.infer([image])[0].evidence[0]
    assert int(evidence.argmax()) == (evidence.shape[0] - 1) * evidence.shape[1]  # lower left


def test_ordinary_cells_are_near_nothing_and_the_score_is_the_pooled_map(
    network: InspectionNetwork,
) -> None:
    with torch.no_grad():
        score, evidence, novelty = network(torch.from_numpy(np.stack(Plates(10, seed=2).held)))
    assert abs(float(evidence.mean())) < 2
    assert torch.equal(pool_evidence(evidence, network.architecture.sharpness), score)
    assert (novelty > 0).all()


def test_the_distance_is_that_of_the_nearest_stored_cell() -> None:
    generator = torch.Generator().manual_seed(3)
    stored = torch.randn(7, 5, generator=generator)
    cells = torch.randn(2, 5, 3, 4, generator=generator)
    head = MemoryHead(5, 9)
    head.store(stored)
    rows = cells.permute(0, 2, 3, 1).reshape(-1, 5)
    wanted = torch.cdist(rows, stored).min(1).values.reshape(2, 1, 3, 4)
    assert torch.allclose(head.distance(cells), wanted, atol=1e-5)
    head.scale(centre=2.0, spread=0.5)
    assert torch.allclose(head(cells), (wanted - 2) / 0.5, atol=1e-4)


def test_the_same_images_give_the_same_memory(
    network: InspectionNetwork,
) -> None:
    again = fitted_to(Plates(20, seed=1)).network
    for one, other in zip(again.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_saved_memory_is_a_memory_again(
    network: InspectionNetwork, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    save_network(network, path)
    again = load_network(path)
    assert isinstance(again.head, MemoryHead)
    assert again.architecture == network.architecture
    image = torch.from_numpy(np.stack(Plates(2, seed=8).held))
    with torch.no_grad():
        for one, other in zip(again(image), network(image), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("wrong", [np.nan, np.inf], ids=["not a number", "infinite"])
def test_what_is_not_a_number_gets_no_score(network: InspectionNetwork, wrong: float) -> None:
    image = torch.from_numpy(Plates(1, seed=2).held[0].copy())[None]
    image[0, 0, 10, 10] = wrong
    with torch.no_grad():
        for output in network(image):
            assert not torch.isfinite(output).all()


def test_a_bad_part_to_fit_on_is_refused() -> None:
    plates = Plates(12, seed=1)
    targets = np.zeros((12, 1), np.float32)
    targets[3] = 1
    with pytest.raises(InputError, match="good parts alone"):
        fit(plates, targets, ["lot"] * 12, SETTINGS)


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        replace(SETTINGS, memory=0)
    with pytest.raises(ConfigurationError):
        Architecture(window=(0.0, 255.0), memory=10, classes=2)
    head = MemoryHead(4, 3)
    for wrong in (
        torch.zeros(4, 4),
        torch.zeros(0, 4),
        torch.zeros(2, 5),
        torch.full((1, 4), torch.nan),
    ):
        with pytest.raises(EngineError):
            head.store(wrong)
    with pytest.raises(EngineError):
        head.scale(centre=1.0, spread=float("nan"))


def test_the_furthest_cell_is_chosen_next_and_equal_ones_once() -> None:
    pool = torch.tensor([[0.0], [1.0], [10.0], [10.0], [4.0]])
    chosen = furthest_apart(pool, 5, torch.Generator().manual_seed(0))
    picked = pool[chosen, 0].tolist()
    assert sorted(picked) == [0.0, 1.0, 4.0, 10.0]
    first, second = picked[:2]
    assert abs(second - first) == max(abs(first - one) for one in (0.0, 10.0))


def test_the_exported_graph_says_what_torch_says(
    network: InspectionNetwork, engine: OpenVinoEngine
) -> None:
    plates = Plates(3, seed=9)
    with torch.no_grad():
        outputs = network(torch.from_numpy(np.stack(plates.held)))
    for index, answer in enumerate(engine.infer(plates.held)):
        assert np.allclose(answer.scores, outputs[0][index], atol=1e-3)
        assert np.allclose(answer.evidence, outputs[1][index], atol=2e-3)
        assert answer.novelty == pytest.approx(float(outputs[2][index]), abs=1e-3)
    assert OUTPUTS == ("score", "evidence", "novelty")


def test_a_network_without_memory_is_unchanged() -> None:
    plain = create_network(
        Architecture(window=(0.0, 255.0), input_size_px=SIZE_PX), pretrained=False
    )
    assert not any("standardise" in name for name in plain.state_dict())
