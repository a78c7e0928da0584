"""A server that signs its records' head and hands it to witnesses, while parts go on."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from inspection.proofs.key_files import make_key
from inspection.proofs.notes import WITNESS, Checkpoint, SigningKey, verify
from inspection.proofs.witness import Witness, read_witness_file
from inspection.stores.checkpoints import key_path
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_url
from inspection.stores.verify import Outside, verify_store
from serving.settings import CheckpointSettings
from serving.witness import WitnessServer
from tests.live_server import running, serial, settings_in, until
from tests.spot_model import part_png

if TYPE_CHECKING:
    from pathlib import Path

HALL = SigningKey(name="witness.example/hall", type=WITNESS, seed=bytes(range(32)))


def test_running_server_has_its_records_witnessed(site: Path) -> None:
    data_dir = site / "var"
    data_dir.mkdir()
    key = make_key(key_path(data_dir), "plant.example/line-1").verifier
    file, away = site / "usb.txt", site / "not mounted" / "usb.txt"
    with (
        closing(Witness(site / "witness", HALL, [key])) as keeper,
        WitnessServer(("127.0.0.1", 0), keeper, "") as server,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        named = (str(file), f"{server.url} {HALL.verifier}", str(away))
        wanted = CheckpointSettings(every_s=0.1, witnesses=named)
        settings = settings_in(site).model_copy(update={"checkpoints": wanted})
        try:
            with running(settings) as live:
                made = live.server.checkpoints
                assert made is not None
                assert "none yet" in live.http.get("/readyz?verbose").text
                for number in range(3):
                    answer = live.post(
                        part_png("good"), capture_id=f"c-{number}", serial=serial(number)
                    )
                    assert answer.status_code == 201
                until(lambda: made.size == 3)
                told = live.http.get("/readyz?verbose")
                assert told.status_code == 200
                assert "over 3 records; 1 of 3 witnesses do not have it" in told.text
                assert str(site) not in told.text
                figures = live.http.get("/metrics").text
                assert "inspection_checkpoint_records 3.0" in figures
                assert f'inspection_witness_ready{{witness="{HALL.name}"}} 1.0' in figures
                assert f'inspection_witness_ready{{witness="{away}"}} 0.0' in figures
                away.parent.mkdir()
                until(lambda: not made.failing)
        finally:
            server.shutdown()
            thread.join()
        seen = keeper.latest(key.name)
    last = read_witness_file(file).notes[-1]
    assert Checkpoint.parse(last.text).size == 3
    assert verify(last, (key, HALL.verifier)) == (key, HALL.verifier)
    assert seen is not None
    assert seen.text == last.text
    outside = Outside(files=(file, away), keys=(key, HALL.verifier))
    images = FileImageStore(images_dir(data_dir), read_only=True)
    report = verify_store(records_url(data_dir), images, outside=outside)
    assert (report.problems, report.covered) == ((), 3)


def test_server_makes_none_unless_it_is_set(site: Path) -> None:
    with running(settings_in(site)) as live:
        assert live.server.checkpoints is None
        assert "checkpoints" not in live.http.get("/readyz?verbose").text
    assert not key_path(site / "var").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"witnesses": ("/mnt/usb.txt",)},
        {"every_records": 5},
        {"every_s": 5, "witnesses": ("http://box",)},
        {"every_s": -1},
    ],
)
def test_settings_that_would_do_nothing_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"checkpoint|every_s|witness"):
        CheckpointSettings.model_validate(values)
