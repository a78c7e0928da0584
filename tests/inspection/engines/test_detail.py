"""The detail branch: what it is shown, and that every runtime gives the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import openvino as ov
import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from inspection.engines.detail import STRIDE, Detail
from inspection.engines.header import METADATA_KEY
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
from inspection.errors import ConfigurationError, EngineError
from inspection.frame import Frame
from inspection.recipe import Recipe, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WINDOW = (0.0, 65_535.0)
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


def detail_network(**changes: object) -> InspectionNetwork:
    given: dict[str, object] = {
        "input_size_px": SIZE_PX,
        "window": WINDOW,
        "components": 8,
        "sharpness": SHARPNESS,
        "detail": 8,
    }
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return create_network(Architecture(**(given | changes)), pretrained=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def network() -> InspectionNetwork:
    found = detail_network()
    assert isinstance(found.head, Detail)
    return found


@pytest.fixture(scope="module")
def graph(network: InspectionNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detail") / "model.onnx"
    export_onnx(network, path)
    return path


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


def test_every_runtime_gives_the_same_and_the_pooled_map_is_the_score(
    network: InspectionNetwork, graph: Path, tmp_path: Path
) -> None:
    images = np.stack([radiograph(seed, spots=True) for seed in range(3)])
    with torch.no_grad():
        wanted = [one.numpy() for one in network(torch.from_numpy(images))]
    assert wanted[1].shape == (3, 1, SIZE_PX[0] // STRIDE, SIZE_PX[1] // STRIDE)
    assert wanted[1].std() > 1e-3
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    served = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = served(images)
    for got in (session.run(None, {"image": images}), [answers[place] for place in range(3)]):
        for want, have in zip(wanted, got, strict=True):
            np.testing.assert_allclose(have, want, atol=1e-3, rtol=1e-4)
        pooled = pool_evidence_numpy(got[1], SHARPNESS)
        np.testing.assert_allclose(pooled, got[0], atol=1e-5)
    save_network(network, tmp_path / "model.safetensors")
    again = load_network(tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(again(torch.from_numpy(images))[1], torch.from_numpy(wanted[1]))
    engine = TorchEngine(again, device="cpu")
    (said,) = engine.infer([images[0]])
    engine.close()
    np.testing.assert_allclose(said.evidence, wanted[1][0], atol=1e-3)


@pytest.mark.parametrize("width", [0, 16])
def test_networks_from_before_open_if_all_they_hold_is_still_served(
    network: InspectionNetwork, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "model.safetensors"
    save_network(network, path)
    with safetensors.safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()[METADATA_KEY])
    held = load_file(path)
    save_file(held, path, metadata={METADATA_KEY: json.dumps(document | {"fine": width})})
    if width:
        with pytest.raises(EngineError, match="train it again"):
            load_network(path)
    else:
        assert load_network(path).architecture == network.architecture


def as_it_is_shown(network: InspectionNetwork) -> InspectionNetwork:
    """The network with weights such that its evidence is the contrast, averaged over 9 pixels."""
    head = network.head
    assert isinstance(head, Detail)
    tensors = dict(head.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            norm = name.removesuffix(".weight") != name and tensor.dim() == 1
            tensor.fill_(1.0 if norm else 0.0)
        tensors["stem.0.0.weight"][0, 0] = 1 / 25
        tensors["stem.0.1.bias"][0] = 1.0  # where ReLU is a straight line
        tensors["stem.1.0.weight"][0, 0, 1, 1] = 1.0
        tensors["down.0.weight"][0, 0] = 1 / 9
        tensors["in_finest.0.weight"][0, 0, 1, 1] = 1.0
        tensors["last.weight"][0, 0] = 1.0
    return network


def test_a_few_grey_levels_on_a_large_ramp_are_seen_at_serving_precision(tmp_path: Path) -> None:
    export_onnx(as_it_is_shown(detail_network()), tmp_path / "model.onnx")
    options = {"INFERENCE_PRECISION_HINT": "f32"}  # as it is served
    served = ov.Core().compile_model(tmp_path / "model.onnx", "CPU", options)
    inner = MIDDLES[1:-1] // STRIDE  # beside an edge of the image nobody knows what is around
    cells = np.ix_(inner, inner)

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


def test_a_pixel_that_is_no_number_never_gets_a_score(graph: Path) -> None:
    spoilt = radiograph(0, spots=False)[np.newaxis].copy()
    spoilt[0, 0, 40, 40] = np.nan
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    served = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for score in (session.run(["score"], {"image": spoilt})[0], served(spoilt)["score"]):
        assert not np.isfinite(score).any()


def test_it_is_shown_contrast_whatever_the_thickness_and_the_thickness_apart() -> None:
    """A contrast of 4 grey levels in 20,000 is there, beside a ramp over half the window."""
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    spot = np.where(np.hypot(rows - 62, columns - 62) < 4, 1.0002, 1.0)
    ramp = 15_000 * np.exp(columns / 100)
    held = np.stack([20_000 * spot, 2_000 * spot, ramp * spot, ramp]).astype(np.float32)
    with torch.no_grad():
        thin, thick, sloped, plain = Detail(WINDOW, 2, 1).seen(torch.from_numpy(held)[:, None])
    for seen in (thin, thick):
        assert float(seen[0, 62, 62]) == pytest.approx(0.0002 / 0.03, rel=0.2)
    assert float((sloped - plain)[0, 62, 62]) == pytest.approx(0.0002 / 0.03, rel=0.2)
    assert float((thin - thick)[-1].mean()) == pytest.approx(np.log(10), rel=1e-3)


def test_a_spot_on_a_fillet_stands_out_beside_the_narrowest_mean() -> None:
    """An edge that doubles the level within 4 mm of 0.1 mm, and a spot of 3 % on its slope."""
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    fillet = 20_000 * np.exp(np.log(2) / (1 + np.exp(-(columns - 64) / 5)))
    spot = np.where(np.hypot(rows - 64, columns - 58) < 3, 1.03, 1.0)
    held = np.stack([fillet, fillet * spot]).astype(np.float32)
    with torch.no_grad():
        plain, spotted = Detail(WINDOW, 2, 1).seen(torch.from_numpy(held)[:, None])
    strength = (spotted - plain)[:3, 64, 58] / plain[:3, 64].abs().amax(dim=1)
    assert strength[2] > 2.5 * strength[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 3},
        {"memory": 10},
        {"context": 10},
        {"tuned_from": 4},
        {"input_size_px": (250, 256)},
        {"detail": 5},
        {"detail": -2},
        {"detail": 0, "zoned": True},
    ],
    ids=json.dumps,
)
def test_an_architecture_without_sense_cannot_be_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        detail_network(**wrong)
