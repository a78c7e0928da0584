"""An engine that does not answer as it did when it was measured judges nothing."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.engine import Prediction
from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import EngineError, InspectionError, PackageDamaged
from inspection.golden import FILE_NAME, Golden, read_golden, self_test
from tests.spot_model import part_image, spot_graph, write_spot_package

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.package import ModelPackage


def images() -> list[NDArray[np.float32]]:
    return [
        part_image(kind, size=64)[np.newaxis].astype(np.float32)
        for kind in ("good", "unsure", "bad")
    ]


def golden_of(graph: bytes) -> bytes:
    engine = OpenVinoEngine(graph)
    return Golden.of(images(), engine.infer(images())).as_bytes()


def package_with(root: Path, golden: bytes) -> ModelPackage:
    package: ModelPackage = write_spot_package(root, more={FILE_NAME: golden})
    return package


def test_the_engine_that_was_measured_passes(tmp_path: Path) -> None:
    package = package_with(tmp_path, golden_of(spot_graph()))
    assert self_test(package, OpenVinoEngine.for_package(package)) == 3


@pytest.mark.parametrize("gain", [80.0, 5.0, -40.0])
def test_another_network_in_its_place_is_refused(tmp_path: Path, gain: float) -> None:
    package = package_with(tmp_path, golden_of(spot_graph()))
    with pytest.raises(EngineError, match="does not answer golden image"):
        self_test(package, OpenVinoEngine(spot_graph(gain=gain)))


def test_a_novelty_that_drifted_is_refused(tmp_path: Path) -> None:
    found = read_golden(golden_of(spot_graph()))
    drifted = Golden(images=found.images, scores=found.scores, novelty=found.novelty * 1.1)
    package = package_with(tmp_path, drifted.as_bytes())
    with pytest.raises(EngineError, match="novelty by"):
        self_test(package, OpenVinoEngine.for_package(package))


def test_a_package_of_an_earlier_release_has_none(tmp_path: Path) -> None:
    package = write_spot_package(tmp_path)
    assert self_test(package, OpenVinoEngine.for_package(package)) == 0


def test_equal_contents_are_equal_bytes_and_come_back() -> None:
    data = golden_of(spot_graph())
    assert data == golden_of(spot_graph())
    found = read_golden(data)
    np.testing.assert_array_equal(found.images, np.stack(images()))
    assert found.as_bytes() == data


@given(st.binary(max_size=200))
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(PackageDamaged, match=FILE_NAME):
        read_golden(data)


def test_a_pickle_in_its_place_is_not_run() -> None:
    out = io.BytesIO()
    np.savez(out, images=np.array([object()]), scores=np.zeros((1, 1)), novelty=np.zeros(1))
    with pytest.raises(PackageDamaged, match="cannot be read"):
        read_golden(out.getvalue())


def test_a_cut_file_is_refused() -> None:
    data = golden_of(spot_graph())
    for length in range(0, len(data), max(1, len(data) // 40)):
        with pytest.raises(InspectionError):
            read_golden(data[:length])


def test_a_byte_that_turned_is_refused_or_changes_nothing_that_is_read() -> None:
    data = golden_of(spot_graph())
    for place in range(0, len(data), max(1, len(data) // 300)):
        for mask in (0x01, 0x80, 0xFF):
            turned = bytearray(data)
            turned[place] ^= mask
            with contextlib.suppress(PackageDamaged):
                assert read_golden(bytes(turned)).as_bytes() == data


def test_golden_numbers_are_finite() -> None:
    prediction = Prediction(
        scores=np.zeros(1, np.float32), evidence=np.zeros((1, 2, 2), np.float32), novelty=0.0
    )
    with pytest.raises(PackageDamaged, match="not finite"):
        Golden.of([np.full((1, 4, 4), np.nan, np.float32)], [prediction])
