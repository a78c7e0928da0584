"""The fine branch: what its filters see, and that every runtime sees the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import openvino as ov
import pytest
import torch

from inspection.engines.fine import FEATURES, NAMES, STRIDE, Fine, FineFilters
from inspection.engines.network import (
    Architecture,
    InspectionNetwork,
    create_network,
    export_onnx,
    load_network,
    pool_evidence_numpy,
    save_network,
)
from inspection.engines.torch import TorchEngine
from inspection.errors import ConfigurationError
from inspection.frame import Frame
from inspection.recipe import Recipe, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE_PX = (256, 256)
SHARPNESS = 4.0
RECIPE = Recipe(
    product="KN-42",
    modality="x-ray",
    bits=16,
    channels=1,
    input_size_px=SIZE_PX,
    window=(0, 65_535),
    classes=("pore",),
)
RADIUS, NOISE = 4.5, 6e-4
MIDDLES = np.arange(22, 256, 32)  # of the spots, along rows and columns; in the middle of a cell


def fine_network(**changes: object) -> InspectionNetwork:
    given: dict[str, object] = {
        "input_size_px": SIZE_PX,
        "window": (0.0, 65_535.0),
        "components": 8,
        "sharpness": SHARPNESS,
        "fine": 4,
    }
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return create_network(Architecture(**(given | changes)), pretrained=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def network() -> InspectionNetwork:
    """Its evidence is the strength of a blob of 4.8 pixels, as it is."""
    found = fine_network()
    assert isinstance(found.head, Fine)
    layers = (found.head.head.first, found.head.head.second, found.head.head.last)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()  # type: ignore[union-attr]
        layers[0].weight[0, NAMES.index("blob 4x1.2")] = 1.0
        layers[0].bias[0] = 30.0  # type: ignore[index]  # where SiLU is a straight line
        layers[1].weight[0, 0] = layers[2].weight[0, 0] = 1.0
    return found


@pytest.fixture(scope="module")
def graph(network: InspectionNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fine") / "model.onnx"
    export_onnx(network, path)
    return path


@pytest.fixture(scope="module")
def served(graph: Path) -> ov.CompiledModel:
    """As it is served: float32."""
    return ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def radiograph(seed: int, *, spots: bool) -> NDArray[np.float32]:
    """(1, 256, 256) as `prepare` gives it: what is behind a wedge, noise, perhaps spots.

    A spot has three times the contrast that noise averaged over its area has: 3 to 11 grey levels
    where the wedge goes from 15,000 to 50,000.
    """
    rows, columns = np.mgrid[:256, :256].astype(np.float64)
    relative = np.random.default_rng(seed).normal(1, NOISE, SIZE_PX)
    if spots:
        near = [np.hypot(rows - y, columns - x) < RADIUS for y in MIDDLES for x in MIDDLES]
        relative += 3 * NOISE / np.sqrt(near[0].sum()) * np.any(near, axis=0)
    pixels = np.rint(15_000 * np.exp(columns / 212) * relative).astype(np.uint16)
    frame = Frame(pixels=pixels, sha256="0" * 64, media_type="image/tiff")
    return prepare(frame, RECIPE)


def test_a_few_grey_levels_on_a_large_ramp_are_seen_at_serving_precision(
    served: ov.CompiledModel,
) -> None:
    cells = np.ix_(MIDDLES // STRIDE, MIDDLES // STRIDE)

    def evidence(seed: int, *, spots: bool) -> NDArray[np.float32]:
        answer = served(radiograph(seed, spots=spots)[np.newaxis])
        found: NDArray[np.float32] = answer["evidence"][0, 0][cells].ravel()
        return found

    seen = np.concatenate([evidence(seed, spots=True) for seed in range(3)])
    blank = np.concatenate([evidence(seed, spots=False) for seed in range(3, 6)])
    ranks = np.searchsorted(np.sort(blank), seen)
    # Area under the ROC curve, spot by spot. At three times the noise a matched filter that is
    # given the background has 0.98; where nothing is seen it is 0.5.
    assert ranks.mean() / len(blank) > 0.87


def test_every_runtime_gives_the_same_and_the_pooled_map_is_the_score(
    network: InspectionNetwork, graph: Path, served: ov.CompiledModel
) -> None:
    images = np.stack([radiograph(seed, spots=True) for seed in range(3)])
    with torch.no_grad():
        wanted = [one.numpy() for one in network(torch.from_numpy(images))]
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    answers = served(images)
    for got in (session.run(None, {"image": images}), [answers[place] for place in range(3)]):
        for want, have in zip(wanted, got, strict=True):
            np.testing.assert_allclose(have, want, atol=1e-3, rtol=1e-4)
        pooled = pool_evidence_numpy(got[1], SHARPNESS)
        np.testing.assert_allclose(pooled, got[0], atol=1e-5)


def test_the_engine_of_pytorch_gives_the_same(
    network: InspectionNetwork, served: ov.CompiledModel, tmp_path: Path
) -> None:
    save_network(network, tmp_path / "model.safetensors")  # the engine changes the one it serves
    engine = TorchEngine(load_network(tmp_path / "model.safetensors"), device="cpu")
    image = radiograph(4, spots=True)
    (said,) = engine.infer([image])
    engine.close()
    wanted = served(image[np.newaxis])
    np.testing.assert_allclose(said.scores, wanted["score"][0], atol=1e-3)
    np.testing.assert_allclose(said.evidence, wanted["evidence"][0], atol=1e-3)


def test_a_pixel_that_is_no_number_never_gets_a_score(
    graph: Path, served: ov.CompiledModel
) -> None:
    spoilt = radiograph(0, spots=False)[np.newaxis].copy()
    spoilt[0, 0, 40, 40] = np.nan
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for score in (session.run(["score"], {"image": spoilt})[0], served(spoilt)["score"]):
        assert not np.isfinite(score).any()


def test_saved_and_loaded_it_is_the_same(network: InspectionNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "model.safetensors")
    again = load_network(tmp_path / "model.safetensors")
    image = torch.from_numpy(radiograph(1, spots=True))[None]
    with torch.no_grad():
        for one, other in zip(network(image), again(image), strict=True):
            assert torch.equal(one, other)


def test_thickness_changes_no_contrast_and_a_ramp_none_at_all() -> None:
    """In the logarithm a pore is as deep in a thick wall as in a thin one."""
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    spot = np.where(np.hypot(rows - 62, columns - 62) < RADIUS, 1.03, 1.0)
    filters = FineFilters((0.0, 65_535.0))
    blob = NAMES.index("blob 2x1.7 max")
    with torch.no_grad():
        thin, thick, ramp = filters(
            torch.from_numpy(
                np.stack([40_000 * spot, 4_000 * spot, 4_000 * np.exp(columns / 64)]).astype(
                    np.float32
                )
            )[:, None]
        )[:, blob]
    assert thin.max() == pytest.approx(float(thick.max()), rel=1e-3)
    assert divmod(int(thin.argmax()), thin.shape[1]) == (15, 15)
    assert ramp[4:-4, 4:-4].abs().max() < 0.02 * thin.max()


def test_what_is_bright_and_what_is_dark_have_features_of_their_own() -> None:
    assert len(NAMES) == len(set(NAMES)) == FEATURES
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    spot = np.hypot(rows - 62, columns - 62) < RADIUS
    held = np.stack([np.where(spot, level, 30_000.0) for level in (33_000.0, 27_000.0)])
    with torch.no_grad():
        bright, dark = FineFilters((0.0, 65_535.0))(
            torch.from_numpy(held.astype(np.float32))[:, None]
        )
    for feature, more, less in (
        ("blob 4x1.2", bright, dark),
        ("small bright 2x7", bright, dark),
        ("small dark 2x7", dark, bright),
    ):
        place = NAMES.index(feature)
        assert more[place, 15, 15] > 1.0
        assert more[place, 15, 15] > less[place, 15, 15] + 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 3},
        {"memory": 10},
        {"context": 10},
        {"tuned_from": 4},
        {"input_size_px": (250, 256)},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("branch", ["fine", "detail"])
def test_an_architecture_without_sense_cannot_be_built(
    branch: str, wrong: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        fine_network(**({"fine": 0, branch: 8} | wrong))


@pytest.mark.parametrize("branch", ["fine", "detail"])
@pytest.mark.parametrize("width", [5, -2])
def test_a_branch_is_of_even_width(branch: str, width: int) -> None:
    with pytest.raises(ConfigurationError, match="even width"):
        fine_network(**{"fine": 0, branch: width})


def test_a_network_has_one_branch_that_reads_pixels() -> None:
    with pytest.raises(ConfigurationError, match="by itself"):
        fine_network(fine=8, detail=8)
