"""One server for the tests that only ask, and a fresh one for those that need their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.live_server import Live, promoted_spot, running, settings_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNPROMOTED = "NO-0"
DAMAGED = "DM-9"
DEEP = "KN-16"


@pytest.fixture(autouse=True)
def _no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may run a server as well."""
    import os

    for name in [name for name in os.environ if name.startswith("INSPECTION_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with two products that judge, one without a model and one that is damaged."""
    folder = tmp_path_factory.mktemp("site")
    weights = folder / "weights"
    promoted_spot(weights, "KN-42")
    promoted_spot(weights, DEEP, bits=16)
    damaged = promoted_spot(weights, DAMAGED)
    graph = damaged / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    settings = settings_in(folder, products=("KN-42", DEEP, DAMAGED, UNPROMOTED))
    with running(settings) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with one promoted product, for a server of one's own."""
    promoted_spot(tmp_path / "weights")
    return tmp_path
