"""The detail branch: what it is shown, and that every runtime gives the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import openvino as ov
import pytest
import torch

from inspection.engines.detail import Detail
from inspection.engines.fine import STRIDE
from inspection.engines.network import export_onnx, load_network, pool_evidence_numpy, save_network
from inspection.engines.torch import TorchEngine
from tests.inspection.engines.test_fine import SHARPNESS, SIZE_PX, fine_network, radiograph

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.engines.network import InspectionNetwork

WINDOW = (0.0, 65_535.0)


@pytest.fixture(scope="module")
def network() -> InspectionNetwork:
    found = fine_network(fine=0, detail=8)
    assert isinstance(found.head, Detail)
    return found


@pytest.fixture(scope="module")
def graph(network: InspectionNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detail") / "model.onnx"
    export_onnx(network, path)
    return path


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
