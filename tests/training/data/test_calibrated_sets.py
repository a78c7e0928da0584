"""A set names its detector's calibration, and training sees the very image that serving sees."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from inspection.cli import main
from inspection.decoding.acquisition import Acquisition
from inspection.detector.background import Background
from inspection.detector.book import FOLDER, DetectorBook
from inspection.detector.calibration import read_calibration
from inspection.engines.detail import Detail, told
from inspection.engines.network import load_network
from inspection.errors import DataError
from inspection.frame import decode_image
from inspection.package import load_package
from inspection.recipe import dump_recipe, prepare
from training.data.allowed import allowed_mm
from training.data.images import PreparedImages
from training.data.revisions import remove_revision
from training.manifest import read_manifest
from training.plan import TrainSettings, resolve_values
from training.recipe_for import RECIPE_NAME, recipe_for
from training.simulation.physics import Beam, Detector
from training.simulation.writing import Order, write_set

if TYPE_CHECKING:
    from pathlib import Path

DETECTOR = Detector(size_px=(192, 192), pitch_mm=102.4 / 192, bad_share=5e-4)
KEPT_TOGETHER = ("lot", "mould", "captured_at")
ORDER = Order(parts=3, seed=3, first=46, detector=DETECTOR)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated set in raw/, and its calibration in the server's data folder."""
    folder = tmp_path_factory.mktemp("site")
    write_set(ORDER, folder / "raw", processes=1)
    frames = folder / "raw" / "calibration"
    words = ["--dark", f"{frames}/dark-*.tif", "--open", f"{frames}/open-*.tif"]
    for station in ("xray-1", "xray-2"):
        place = ["--station", station, "--data-dir", str(folder / "var")]
        assert main(["detector", "calibrate", *place, *words]) == 0
    return folder


def calibration_in(site: Path, station: str = "xray-1") -> Path:
    (path,) = (site / "var" / FOLDER / station).glob("*.npz")
    return path


def imported(site: Path, datasets: Path, *options: str) -> int:
    source = str(site / "raw" / "labels.csv")
    words = ["--name", "castings", "--modality", "x-ray", "--datasets-dir", str(datasets)]
    return main(["data", "import", source, *words, *options])


def test_the_simulators_bad_pixels_are_found_exactly_and_its_pattern_goes(site: Path) -> None:
    flat = read_calibration(calibration_in(site)).flat
    assert set(np.flatnonzero(flat.bad)) == set(DETECTOR.bad_pixels.tolist())
    rng = np.random.default_rng(9)
    quanta = Beam().quanta
    raw = DETECTOR.expose(np.full(DETECTOR.size_px, 0.3, np.float32), quanta, rng)
    found = flat.corrected(raw) / flat.level
    own, calibrated = DETECTOR.noise_of(0.3, quanta), 0.3 * DETECTOR.noise_of(1.0, quanta)
    assert found.std() == pytest.approx(np.hypot(own, calibrated / 4), rel=0.05)
    assert found.mean() == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize("background", [None, Background()], ids=["levels", "contrast"])
def test_training_and_serving_see_the_same_image(
    site: Path, tmp_path: Path, background: Background | None
) -> None:
    assert imported(site, tmp_path, "--calibration", str(calibration_in(site))) == 0
    manifest = read_manifest(tmp_path / "castings", verify=True)
    recipe = recipe_for(manifest, input_size_px=(96, 96))
    assert recipe.flat_field
    if background is not None:
        recipe = replace(recipe, background=background, window=(-0.05, 0.05))
    book = DetectorBook(site / "var" / FOLDER)
    flat = book.flat_field("xray-1", Acquisition())
    images = PreparedImages(manifest, recipe, range(3))
    for number, row in enumerate(manifest.rows):
        served = prepare(decode_image(manifest.file(row).read_bytes()), recipe, flat)
        np.testing.assert_array_equal(images[number], served)
    raw = PreparedImages(manifest, replace(recipe, flat_field=False), [0])[0]
    assert np.abs(raw - images[0]).max() > 0


def test_the_calibration_counts_for_the_digest_and_stays_with_the_set(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(site, tmp_path) == 0
    plain = read_manifest(tmp_path / "castings")
    assert plain.calibration is None
    assert imported(site, tmp_path, "--calibration", str(calibration_in(site))) == 0
    assert "calibration changed" in capsys.readouterr().out
    named = read_manifest(tmp_path / "castings")
    assert named.calibration is not None
    assert named.digest != plain.digest
    assert named.calibration.digest[:12] in calibration_in(site).name
    assert imported(site, tmp_path) == 0  # what is not said again stays
    assert read_manifest(tmp_path / "castings").revision == named.revision
    copied = tmp_path / "castings" / named.calibration.path
    assert copied.read_bytes() == calibration_in(site).read_bytes()
    assert main(["data", "show", "castings", "--datasets-dir", str(tmp_path)]) == 0
    assert named.calibration.digest in capsys.readouterr().out
    copied.write_bytes(copied.read_bytes()[:-9])
    with pytest.raises(DataError, match="altered"):
        read_manifest(tmp_path / "castings", verify=True)
    assert imported(site, tmp_path) == 0
    remove_revision(tmp_path / "castings", named.revision)
    assert not copied.exists()


def test_without_its_calibration_a_recipe_that_flat_fields_trains_nothing(
    site: Path, tmp_path: Path
) -> None:
    assert imported(site, tmp_path) == 0
    manifest = read_manifest(tmp_path / "castings")
    recipe = replace(recipe_for(manifest, input_size_px=(96, 96)), flat_field=True)
    with pytest.raises(DataError, match="names no calibration") as caught:
        PreparedImages(manifest, recipe, [0])
    assert "--calibration" in caught.value.remedy
    (manifest.folder / RECIPE_NAME).write_text(dump_recipe(recipe))
    with pytest.raises(DataError, match="names no calibration"):
        recipe_for(manifest, input_size_px=(96, 96))


def test_a_calibration_of_another_detector_is_refused(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(calibration_in(site, "xray-2"))
    assert imported(site, tmp_path, "--calibration", other) == 3
    assert "calibration of station xray-2, but images are of xray-1" in capsys.readouterr().err
    broken = tmp_path / "broken.npz"
    broken.write_bytes(calibration_in(site).read_bytes()[:-9])
    assert imported(site, tmp_path, "--calibration", str(broken)) == 4
    assert "is damaged" in capsys.readouterr().err
    assert not (tmp_path / "castings").exists()


def test_filters_are_learnt_where_radiographs_are_flat_fielded(site: Path, tmp_path: Path) -> None:
    def learnt(source: str, **fit: int) -> bool:
        words = ["--name", source.replace(".", "-"), "--modality", "x-ray"]
        words += ["--datasets-dir", str(tmp_path), "--calibration", str(calibration_in(site))]
        assert main(["data", "import", str(site / "raw" / source), *words]) == 0
        manifest = read_manifest(tmp_path / source.replace(".", "-"))
        assert set(manifest.bad.tolist()) == {False, True}
        settings = TrainSettings(fit=fit)
        fitting = resolve_values(manifest, settings).fitting
        return fitting.detail > 0

    assert learnt("labels.jsonl")
    assert learnt("labels.csv")  # which says nothing of where
    assert not learnt("labels.jsonl", detail=0)


def test_a_model_of_marked_castings_is_told_their_zones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, names = tmp_path / "raw", ["--datasets-dir", str(tmp_path / "datasets")]
    write_set(Order(parts=90, seed=3, detector=DETECTOR, one_class=True), folder, processes=2)
    frames, data_dir = folder / "calibration", tmp_path / "var"
    words = ["--dark", f"{frames}/dark-*.tif", "--open", f"{frames}/open-*.tif"]
    place = ["--station", "xray-1", "--data-dir", str(data_dir)]
    assert main(["detector", "calibrate", *place, *words]) == 0
    (calibration,) = (data_dir / FOLDER / "xray-1").glob("*.npz")
    words = ["--name", "castings", "--product", "KN-42", "--modality", "x-ray", *names]
    lines = map(json.loads, (folder / "labels.jsonl").read_text().splitlines())
    bare = [{k: v for k, v in line.items() if k not in KEPT_TOGETHER} for line in lines]
    source = folder / "bare.jsonl"  # all are of one lot
    source.write_text("".join(f"{json.dumps(line)}\n" for line in bare))
    assert main(["data", "import", str(source), *words, "--calibration", str(calibration)]) == 0
    words = ["--recipe", str(folder / "recipe.toml"), *names]
    words += ["--set", "fit.detail_views=2"]
    places = ["--weights-dir", str(tmp_path / "weights")]
    assert main(["train", "castings", *words, *places]) == 0
    said = next(each for each in capsys.readouterr().err.splitlines() if each.startswith("places:"))
    assert re.fullmatch(
        r"places: (\d+) of \1 bad images are marked; the network is told what the zones allow, "
        r"and learns from \d+ regions marked as allowed",
        said,
    )
    package = load_package(tmp_path / "weights" / "castings" / "1")
    (reference,) = package.recipe.references
    assert (reference.max_shift_mm, reference.max_turn_deg) == (2.5, 2.0)
    network = load_network(package.folder / "model.safetensors")
    assert network.architecture.zoned
    assert isinstance(network.head, Detail)
    assert network.head.allowed is not None
    wanted = allowed_mm(package.recipe, (48, 48))
    assert wanted is not None
    assert len(np.unique(wanted)) == 3  # sealing, bosses, the rest
    assert torch.equal(network.head.allowed[0], told(torch.from_numpy(wanted)))
