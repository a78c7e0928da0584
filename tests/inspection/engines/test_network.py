from __future__ import annotations

import importlib.util
import json
import pickle
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
import skimage.data
import timm
import torch

from inspection.engines.backbones import (
    BACKBONES,
    Taps,
    create_classifier,
    file_sha256,
    find_weights,
)
from inspection.engines.network import (
    Architecture,
    EvidenceHead,
    InspectionNetwork,
    create_network,
    export_onnx,
    load_network,
    pool_evidence,
    pool_evidence_numpy,
    save_network,
)
from inspection.errors import ConfigurationError, EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE_PX = (96, 128)


def small(**changes: object) -> Architecture:
    given: dict[str, object] = {
        "input_size_px": SIZE_PX,
        "window": (0.0, 255.0),
        "classes": 2,
        "components": 16,
        "hidden": 8,
    }
    return Architecture(**(given | changes))  # type: ignore[arg-type]


def awake(network: InspectionNetwork) -> InspectionNetwork:
    """With a head that says something."""
    generator = torch.Generator().manual_seed(3)
    assert isinstance(network.head, EvidenceHead)
    with torch.no_grad():
        for layer in (network.head.outer, network.head.straight, network.novelty.whiten):
            layer.weight.normal_(0, 0.3, generator=generator)
    return network


@pytest.fixture(scope="module")
def network() -> InspectionNetwork:
    torch.manual_seed(5)
    return awake(create_network(small()))


@pytest.fixture(scope="module")
def graph(network: InspectionNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(network, path)
    return path


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    generator = np.random.default_rng(7)
    noise = generator.uniform(0, 255, (1, 1, *SIZE_PX))
    ramp = np.linspace(0, 255, SIZE_PX[1])[None, None, None].repeat(SIZE_PX[0], 2)
    camera = cv2.resize(skimage.data.camera(), SIZE_PX[::-1])  # type: ignore[no-untyped-call]
    return np.concatenate([noise, ramp, camera[None, None]]).astype(np.float32)


def in_openvino(graph: Path, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    compiled = ov.Core().compile_model(str(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled(images)
    return [np.array(answer[name]) for name in ("score", "evidence", "novelty")]


def in_onnxruntime(graph: Path, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return [
        np.asarray(one) for one in session.run(["score", "evidence", "novelty"], {"image": images})
    ]


class TestBackbones:
    @pytest.mark.parametrize(
        ("picture", "label"), [("coffee", 967), ("chelsea", 285)], ids=["espresso", "egyptian cat"]
    )
    def test_imagenet_weights_see_what_they_should(self, picture: str, label: int) -> None:
        classifier = create_classifier(
            "tf_efficientnet_lite0", weights=find_weights("tf_efficientnet_lite0")
        )
        shown = cv2.resize(
            getattr(skimage.data, picture)() / 255.0, (224, 224), interpolation=cv2.INTER_AREA
        )
        image = torch.from_numpy(((shown - 0.5) / 0.5).transpose(2, 0, 1)[None]).float()
        with torch.no_grad():
            assert int(classifier(image).argmax()) == label

    def test_the_list_for_people_says_the_same_as_the_code(self) -> None:
        text = Path(__file__).parents[3].joinpath("weights/backbones.toml").read_text("utf-8")
        told = tomllib.loads(text)
        assert {
            name: (one["distribution"], one["file"], one["sha256"], one["licence"])
            for name, one in told.items()
        } == {one.name: (one.distribution, one.file, one.sha256, one.licence) for one in BACKBONES}

    def test_weights_that_are_not_installed_name_the_package(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        for one in BACKBONES:
            with pytest.raises(ConfigurationError) as caught:
                find_weights(one.name)
            assert one.distribution in caught.value.remedy

    def test_an_unknown_backbone_needs_a_file(self) -> None:
        with pytest.raises(ConfigurationError, match="resnet10t"):
            create_network(small(backbone="resnet10t"))
        with pytest.raises(ConfigurationError, match="no architecture"):
            create_network(small(backbone="resnet_of_dreams"), pretrained=False)

    def test_any_timm_backbone_takes_a_weights_file(self, tmp_path: Path) -> None:
        torch.manual_seed(1)
        classifier: Any = timm.create_model("resnet10t", pretrained=False).eval()
        torch.save(classifier.state_dict(), tmp_path / "mine.pth")
        network = create_network(small(backbone="resnet10t"), weights=tmp_path / "mine.pth")
        assert network.architecture.backbone_sha256 == file_sha256(tmp_path / "mine.pth")
        image = torch.rand(1, 3, *SIZE_PX)
        with torch.no_grad():
            last = network.trunk.taps(image)[-1]
            assert torch.allclose(last, classifier.forward_features(image), atol=1e-5)

    def test_weights_of_another_architecture_are_refused(self, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
        with pytest.raises(ConfigurationError, match="holds 1 tensors"):
            Taps("tf_efficientnet_lite0", weights=tmp_path / "other.pth")

    @pytest.mark.parametrize("content", [b"", b"\x80\x02", b"hello", b"PK\x03\x04", b"{}"])
    def test_a_file_of_another_kind_is_refused_in_words(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "notes.pth"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"notes\.pth: no weights"):
            Taps("tf_efficientnet_lite0", weights=path)

    def test_a_pickled_object_is_never_built(self, tmp_path: Path) -> None:
        path = tmp_path / "trap.pth"
        path.write_bytes(pickle.dumps({"a": Path("/")}, protocol=2))
        with pytest.raises(ConfigurationError, match="no weights"):
            Taps("tf_efficientnet_lite0", weights=path)
        with pytest.raises(ConfigurationError):
            Taps("tf_efficientnet_lite0", weights=tmp_path / "absent.pth")


class TestPooling:
    def test_lies_between_mean_and_maximum(self) -> None:
        evidence = np.random.default_rng(1).normal(0, 3, (4, 2, 5, 6)).astype(np.float32)
        pooled = pool_evidence_numpy(evidence, 2.0)
        assert (pooled >= evidence.mean((-2, -1))).all()
        assert (pooled <= evidence.max((-2, -1))).all()
        assert np.allclose(pool_evidence_numpy(evidence, 1e-3), evidence.mean((-2, -1)), atol=0.02)
        assert np.allclose(pool_evidence_numpy(evidence, 1e3), evidence.max((-2, -1)), atol=0.01)

    def test_numpy_and_torch_agree_and_large_evidence_does_not_overflow(self) -> None:
        evidence = np.random.default_rng(1).normal(0, 400, (4, 2, 5, 6)).astype(np.float32)
        in_torch = pool_evidence(torch.from_numpy(evidence), 2.0).numpy()
        assert np.isfinite(in_torch).all()
        assert np.allclose(in_torch, pool_evidence_numpy(evidence, 2.0), rtol=1e-5)

    def test_a_constant_map_pools_to_its_constant(self) -> None:
        assert pool_evidence(torch.full((1, 1, 7, 7), 1.25), 4.0).item() == pytest.approx(1.25)


class TestNetwork:
    def test_the_pooled_map_is_the_score(
        self, network: InspectionNetwork, images: NDArray[np.float32]
    ) -> None:
        with torch.no_grad():
            score, evidence, novelty = network(torch.from_numpy(images))
        assert score.shape == (3, 2)
        assert evidence.shape[:2] == (3, 2)
        assert novelty.shape == (3,)
        assert (novelty >= 0).all()
        assert torch.equal(pool_evidence(evidence, 2.0), score)
        assert np.allclose(pool_evidence_numpy(evidence.numpy(), 2.0), score.numpy(), atol=1e-5)

    def test_the_window_is_inside_the_graph(self, images: NDArray[np.float32]) -> None:
        torch.manual_seed(5)
        shallow = awake(create_network(small()))
        torch.manual_seed(5)
        deep = awake(create_network(small(window=(1000.0, 52000.0))))
        deep.load_state_dict(shallow.state_dict())
        with torch.no_grad():
            one = shallow(torch.from_numpy(images))[0]
            other = deep(torch.from_numpy(images * 200 + 1000))[0]
        assert torch.allclose(one, other, atol=1e-3)

    def test_grey_is_three_equal_colours(self, network: InspectionNetwork) -> None:
        colour = awake(create_network(small(channels=3)))
        colour.load_state_dict(network.state_dict())
        grey = torch.rand(1, 1, *SIZE_PX) * 255
        with torch.no_grad():
            assert torch.allclose(network(grey)[0], colour(grey.repeat(1, 3, 1, 1))[0], atol=1e-5)

    def test_saved_and_loaded_it_is_the_same(
        self, network: InspectionNetwork, images: NDArray[np.float32], tmp_path: Path
    ) -> None:
        save_network(network, tmp_path / "a.safetensors")
        again = load_network(tmp_path / "a.safetensors")
        save_network(again, tmp_path / "b.safetensors")
        assert (tmp_path / "a.safetensors").read_bytes() == (
            tmp_path / "b.safetensors"
        ).read_bytes()
        assert again.architecture == network.architecture
        with torch.no_grad():
            for one, other in zip(
                network(torch.from_numpy(images)), again(torch.from_numpy(images)), strict=True
            ):
                assert torch.equal(one, other)

    def test_a_damaged_file_is_refused(self, network: InspectionNetwork, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        save_network(network, path)
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        with pytest.raises(EngineError, match=r"damaged|not a network"):
            load_network(path)
        path.write_bytes(b"")
        with pytest.raises(EngineError):
            load_network(path)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"window": (5.0, 5.0)},
            {"window": (0.0, float("nan"))},
            {"channels": 2},
            {"input_size_px": (8, 8)},
            {"classes": 0},
            {"sharpness": 0.0},
            {"sharpness": float("nan")},
        ],
        ids=json.dumps,
    )
    def test_an_architecture_without_sense_cannot_be_built(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ConfigurationError):
            small(**wrong)


class TestExport:
    def test_every_runtime_gives_the_same(
        self, network: InspectionNetwork, graph: Path, images: NDArray[np.float32]
    ) -> None:
        with torch.no_grad():
            wanted = [one.numpy() for one in network(torch.from_numpy(images))]
        for runtime in (in_onnxruntime, in_openvino):
            for count in (1, 3):
                got = runtime(graph, images[:count])
                for want, have in zip(wanted, got, strict=True):
                    assert have.dtype == np.float32
                    assert np.allclose(have, want[:count], atol=1e-3, rtol=1e-4)
                assert np.allclose(pool_evidence_numpy(got[1], 2.0), got[0], atol=1e-5)

    @pytest.mark.parametrize("poison", [np.nan, np.inf], ids=["nan", "infinity"])
    def test_a_pixel_that_is_no_number_never_gets_a_score(
        self, graph: Path, images: NDArray[np.float32], poison: float
    ) -> None:
        spoilt = images[:2].copy()
        spoilt[1, 0, 40, 40] = poison
        for runtime in (in_onnxruntime, in_openvino):
            for output in runtime(graph, spoilt):
                assert np.isfinite(output[0]).all()
                assert not np.isfinite(output[1]).any()

    def test_names_shapes_and_nothing_of_this_machine(self, graph: Path) -> None:
        model = onnx.load(graph)
        onnx.checker.check_model(model)
        assert [one.name for one in model.graph.input] == ["image"]
        assert [one.name for one in model.graph.output] == ["score", "evidence", "novelty"]
        batch, *rest = model.graph.input[0].type.tensor_type.shape.dim
        assert batch.dim_param
        assert [one.dim_value for one in rest] == [1, *SIZE_PX]
        assert model.opset_import[0].version >= 17
        held = graph.read_bytes()
        for trace in (str(Path(__file__).parents[3]), "site-packages", ".py"):
            assert trace.encode() not in held

    def test_exported_again_it_has_the_same_bytes(
        self, network: InspectionNetwork, graph: Path, tmp_path: Path
    ) -> None:
        save_network(network, tmp_path / "model.safetensors")
        export_onnx(load_network(tmp_path / "model.safetensors"), tmp_path / "again.onnx")
        assert (tmp_path / "again.onnx").read_bytes() == graph.read_bytes()
