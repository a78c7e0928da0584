"""A training that was stopped goes on to the same result, or says why it cannot."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inspection.errors import ConfigurationError, DataError
from training.fit import FitResult, FitSettings, fit
from training.fitting.checkpoint import RunFolder
from training.fitting.features import FeatureCache, extract_features

SIZE_PX = (64, 64)
SETTINGS = FitSettings(
    preset="full",
    seed=5,
    input_size_px=SIZE_PX,
    window=(0.0, 255.0),
    flips=("horizontal",),
    pretrained=False,
    threads=1,
    components=16,
    hidden=8,
    heads=2,
    epochs=2,
    batch=8,
    full_epochs=3,
    full_batch=8,
    full_views=2,
    validation=0.25,
)


class Plates:
    """Grey plates of six lots; every second one has a dark bar."""

    def __init__(self, count: int = 30) -> None:
        generator = np.random.default_rng(8)
        self.held = generator.normal(128, 8, (count, 1, *SIZE_PX)).astype(np.float32)
        self.held[1::2, :, 20:26, 10:50] -= 70
        self.labels = (np.arange(count) % 2).astype(np.float32)[:, np.newaxis]
        self.groups = [f"lot-{index // 5}" for index in range(count)]
        self.broken: int | None = None

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int, /) -> NDArray[np.float32]:
        if index == self.broken:
            raise DataError(f"plates/{index:03d}.png cannot be read: it ends in the middle")
        return np.asarray(self.held[index])


class StoppedError(Exception):
    """Somebody pulled the plug."""


def digest(result: FitResult) -> bytes:
    return b"".join(one.numpy().tobytes() for one in result.network.state_dict().values())


def trained(
    plates: Plates,
    features: FeatureCache,
    run: RunFolder | None,
    settings: FitSettings = SETTINGS,
    *,
    stop_after: int | None = None,
    said: list[str] | None = None,
) -> FitResult:
    def progress(stage: str, done: int, _total: int) -> None:
        if stage == "fine-tuning" and stop_after is not None and done >= stop_after:
            raise StoppedError

    return fit(
        plates,
        plates.labels,
        plates.groups,
        settings,
        features=features,
        progress=progress,
        say=None if said is None else said.append,
        run=run,
    )


@pytest.fixture(scope="module")
def plates() -> Plates:
    return Plates()


@pytest.fixture(scope="module")
def features(plates: Plates) -> FeatureCache:
    with torch.random.fork_rng():
        torch.manual_seed(SETTINGS.seed)
        return extract_features(plates, SETTINGS)


@pytest.fixture(scope="module")
def whole(plates: Plates, features: FeatureCache) -> bytes:
    return digest(trained(plates, features, None))


@pytest.mark.parametrize("stop_after", [1, 3, 4, 7])
def test_a_stopped_training_goes_on_to_the_same_weights(
    plates: Plates,
    features: FeatureCache,
    whole: bytes,
    tmp_path: Path,
    stop_after: int,
) -> None:
    run = RunFolder.open(tmp_path, {"data": "d1", "settings": "s"}, resume=False)
    with pytest.raises(StoppedError):
        trained(plates, features, run, stop_after=stop_after)
    assert (run.folder / "checkpoint.pt").is_file()
    again = RunFolder.open(tmp_path, {"data": "d1", "settings": "s"}, resume=True)
    said: list[str] = []
    assert digest(trained(plates, features, again, said=said)) == whole
    assert len(said) == SETTINGS.full_epochs - (stop_after - 1) // 3
    assert "images of other groups" in said[-1]
    table = (again.folder / "metrics.csv").read_text().splitlines()
    assert table[0].startswith("stage,epoch,loss,validation_auc")
    assert [line.split(",")[1] for line in table[1:]] == ["1", "2", "3"]
    again.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_in_the_middle_of_an_epoch_is_as_good(
    plates: Plates,
    features: FeatureCache,
    whole: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.fitting.fit_full.INTERVAL_S", 0.0)
    run = RunFolder.open(tmp_path, {}, resume=False)
    with pytest.raises(StoppedError):
        trained(plates, features, run, stop_after=2)
    assert digest(trained(plates, features, run)) == whole


def test_the_whole_backbone_is_resumed_as_well(
    plates: Plates, features: FeatureCache, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, full_frozen=0, full_epochs=2)
    wanted = digest(trained(plates, features, None, settings))
    run = RunFolder.open(tmp_path, {}, resume=False)
    with pytest.raises(StoppedError):
        trained(plates, features, run, settings, stop_after=4)
    assert digest(trained(plates, features, run, settings)) == wanted


def test_an_image_that_breaks_in_an_epoch_is_named_and_the_checkpoint_stands(
    features: FeatureCache, tmp_path: Path
) -> None:
    plates = Plates()
    settings = replace(SETTINGS, full_frozen=0, full_epochs=2)
    run = RunFolder.open(tmp_path, {}, resume=False)
    with pytest.raises(StoppedError):
        trained(plates, features, run, settings, stop_after=4)
    before = (run.folder / "checkpoint.pt").read_bytes()
    plates.broken = 7
    with pytest.raises(DataError, match=r"plates/007\.png"):
        trained(plates, features, run, settings)
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_other_data_or_settings_are_not_resumed_and_the_difference_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no unfinished training"):
        RunFolder.open(tmp_path, {"data": "d1"}, resume=True)
    run = RunFolder.open(tmp_path, {"data": "d1", "fit.seed": 1}, resume=False)
    run.save({"step": 1})
    with pytest.raises(ConfigurationError, match=r"fit\.seed was 1, is 2") as refused:
        RunFolder.open(tmp_path, {"data": "d1", "fit.seed": 2}, resume=True)
    assert "--resume" in refused.value.remedy
    assert "data was" not in str(refused.value)
    assert run.load() == {"step": 1}


def test_without_resume_a_training_begins_anew(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, {"data": "d1"}, resume=False).save({"step": 1})
    assert RunFolder.open(tmp_path, {"data": "d1"}, resume=False).load() is None


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_and_the_former_checkpoint_stands(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, {}, resume=False)
    run.save({"step": 1})
    with (
        no_file_larger_than(10_000),
        pytest.raises(ConfigurationError, match="cannot be written") as full,
    ):
        run.save({"step": 2, "tensor": torch.zeros(100_000)})
    assert "Make room" in full.value.remedy
    assert run.load() == {"step": 1}
    assert [path.name for path in run.folder.glob("*.new")] == []


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, {}, resume=False)
    run.save({"step": 1})
    path = run.folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ConfigurationError, match="damaged"):
        run.load()
