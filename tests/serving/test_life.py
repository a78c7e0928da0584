"""What fails is tried again, but not for ever; what is retired is said; products wait ready."""

from __future__ import annotations

import platform
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inspection.errors import EngineError, NoPromotedModel
from inspection.registry import Registry
from serving import lines as serving_lines
from serving import patience
from serving.batching import BatchingEngine
from serving.memory import few_arenas, give_back
from serving.patience import LONGEST_S, MOST, WINDOW_S, Patience
from serving.supervising import beats, status_of
from serving.warming import warm_engine
from tests.live_server import Live, promoted_spot, running, serial, settings_in, until
from tests.serving.test_exchanging import HangsOnce, promote_next, ready, until_version
from tests.spot_model import part_png

if TYPE_CHECKING:
    from inspection.engine import Engine
    from inspection.package import ModelPackage
    from serving.settings import Settings

GOOD = part_png("good")


# --- patience --------------------------------------------------------------------------------


def test_the_waits_double_up_to_a_bound_and_then_it_is_given_up() -> None:
    waited = Patience()
    now, waits = 0.0, []
    while not waited.given_up:
        waited.failed(now)
        waits.append(waited.wait_s)
        assert not waited.due(now)
        now += waited.wait_s
        assert waited.due(now) is not waited.given_up
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_S]
    assert len(waits) == MOST


def test_the_first_failure_may_be_tried_at_once_and_what_is_long_ago_is_forgiven() -> None:
    waited = Patience(at_once=True)
    assert not waited.due(0.0), "nothing has failed"
    waited.failed(0.0)
    assert waited.due(0.0)
    for day in range(1, 3 * MOST):
        waited.failed(day * 2 * WINDOW_S)
        assert (waited.failures, waited.given_up) == (1, False)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in seconds instead of minutes."""
    monkeypatch.setattr(patience, "MOST", 3)
    monkeypatch.setattr(patience, "LONGEST_S", 0.1)
    monkeypatch.setattr(serving_lines, "LOOK_EVERY_S", 0.1)


# --- engines that hang -----------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
def test_an_engine_that_hangs_again_and_again_is_given_up_until_somebody_acts(site: Path) -> None:
    let_go, well = threading.Event(), threading.Event()
    made: list[Engine] = []

    def make(package: ModelPackage, settings: Settings) -> Engine:
        if package.recipe.product != "KN-42" or well.is_set():
            return warm_engine(package, settings)
        hang = threading.Event()
        hang.set()
        made.append(BatchingEngine(HangsOnce(package, hang, let_go), max_batch=1, stuck_s=0.2))
        return made[-1]

    promoted_spot(site / "weights", "KN-43")
    with running(settings_in(site), make_engine=make) as live:
        lines = live.server.lines

        def given_up() -> bool:
            refused = live.post(GOOD, capture_id="hung")
            assert refused.status_code == 503
            return "given up after 3 tries" in refused.json()["detail"]

        until(given_up)
        assert len(made) == 3
        time.sleep(0.5)
        assert len(made) == 3, "nothing more is tried by itself"
        status, text = ready(live)
        assert status == 503
        assert "[FAIL] product KN-42: its engine has not answered" in text
        assert "not ready: product KN-42" in status_of(lines, live.server.keeping)
        assert beats(lines), "another product is judged: the process is not started anew for this"
        other = live.post(GOOD, product="KN-43", capture_id="other")
        assert other.status_code == 201
        promoted_spot(site / "weights", "KN-44")
        until(lambda: "KN-44" in lines)
        assert len(made) == 3, "another product's promotion is no reason to try it"
        well.set()
        Registry(site / "weights").promote("spot-kn-42@1")
        until(lambda: ready(live)[0] == 200)
        assert live.post(GOOD, capture_id="hung").status_code == 201
        let_go.set()


@pytest.mark.usefixtures("hurried")
def test_without_any_engine_left_the_watchdog_is_let_go(site: Path) -> None:
    let_go = threading.Event()

    def make(package: ModelPackage, _: Settings) -> Engine:
        hang = threading.Event()
        hang.set()
        return BatchingEngine(HangsOnce(package, hang, let_go), max_batch=1, stuck_s=0.2)

    with running(settings_in(site), make_engine=make) as live:
        assert beats(live.server.lines)

        def refused() -> bool:
            return live.post(GOOD, capture_id="hung").status_code == 503

        until(lambda: refused() and not beats(live.server.lines))
        until(lambda: refused() and live.server.lines.gone)
        Registry(site / "weights").retire("spot-kn-42@1", reason="hangs")
        until(lambda: beats(live.server.lines))
        assert "retired" in ready(live)[1], "a retired model is not brought back"
        let_go.set()


# --- promotions that do not work --------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
def test_a_promotion_that_fails_for_a_while_is_put_to_work_by_itself(site: Path) -> None:
    tries: list[float] = []

    def make(package: ModelPackage, settings: Settings) -> Engine:
        if package.document.version == 2:
            tries.append(time.monotonic())
            if len(tries) < 3:
                raise EngineError("the device has no memory left")
        return warm_engine(package, settings)

    with running(settings_in(site), make_engine=make) as live:
        promote_next(site / "weights")
        until(lambda: "no memory left" in ready(live)[1])
        assert live.post(GOOD, capture_id="old").json()["model"]["version"] == 1
        until_version(live, 2)
        assert ready(live)[0] == 200
        assert len(tries) == 3


@pytest.mark.usefixtures("hurried")
def test_a_promotion_that_never_works_is_not_tried_for_ever(site: Path) -> None:
    tries: list[int] = []

    def make(package: ModelPackage, settings: Settings) -> Engine:
        if package.document.version == 2:
            tries.append(2)
            raise EngineError("no such device")
        return warm_engine(package, settings)

    with running(settings_in(site), make_engine=make) as live:
        promote_next(site / "weights")
        until(lambda: "given up after 3 tries" in ready(live)[1])
        time.sleep(0.5)
        assert len(tries) == 3
        assert ready(live)[0] == 200, "the old one judges"
        Registry(site / "weights").retire("spot-kn-42@2", reason="never worked")
        until(lambda: ready(live)[0] == 503)
        assert live.server.lines.refused("KN-42") is None


# --- readiness, retirement, products ----------------------------------------------------------


def test_readiness_holds_through_every_exchange(site: Path) -> None:
    with running(settings_in(site)) as live:
        stop = threading.Event()
        seen: list[int] = []

        def probe() -> None:
            while not stop.is_set():
                seen.append(live.http.get("/readyz").status_code)

        prober = threading.Thread(target=probe)
        prober.start()
        try:
            for number in (2, 3):
                promote_next(site / "weights")
                until_version(live, number)
        finally:
            stop.set()
            prober.join()
        assert set(seen) == {200}
        assert len(seen) > 20
        live.server.feed.stop()  # as the first thing when it is told to stop
        assert ready(live)[0] == 503


def test_a_server_whose_models_are_all_retired_starts_and_says_so(site: Path) -> None:
    with running(settings_in(site)) as live:
        posted = live.post(GOOD, capture_id="before", serial=serial(1)).json()
    Registry(site / "weights").retire("spot-kn-42@1", reason="misses cracks")
    with running(settings_in(site)) as live:
        status, text = ready(live)
        assert status == 503
        assert "misses cracks" in text
        refused = live.post(GOOD, capture_id="after")
        assert (refused.status_code, refused.json()["code"]) == (503, "no-promoted-model")
        assert live.http.get(f"/v1/inspections/{posted['id']}").status_code == 200
        promote_next(site / "weights")
        until(lambda: ready(live)[0] == 200)
        assert live.post(GOOD, capture_id="after").status_code == 201


def test_a_weights_folder_without_any_decision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoPromotedModel), running(settings_in(tmp_path)):
        pass


def test_stations_change_between_products_without_a_wait(site: Path) -> None:
    """All listed products are prepared ahead: none is loaded because a part of it comes."""
    names = ("KN-42", "KN-43", "KN-44")
    for name in names[1:]:
        promoted_spot(site / "weights", name)
    made: list[str] = []

    def make(package: ModelPackage, settings: Settings) -> Engine:
        made.append(package.recipe.product)
        return warm_engine(package, settings)

    with running(settings_in(site), make_engine=make) as live:
        assert sorted(made) == list(names)
        spent: dict[str, list[float]] = {name: [] for name in names}
        for number in range(12):
            name = names[number % 3]
            began = time.monotonic()
            answer = live.post(GOOD, product=name, capture_id=f"c-{number}")
            spent[name].append(time.monotonic() - began)
            assert answer.status_code == 201
            assert answer.json()["model"]["name"] == f"spot-{name.lower()}"
        assert sorted(made) == list(names)
        assert max(max(each) for each in spent.values()) < 3


# --- memory ----------------------------------------------------------------------------------


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def test_memory_that_is_free_goes_back_to_the_system() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc is told")
    few_arenas()
    blocks = [bytearray(32_000) for _ in range(3000)]  # below what is mapped by itself
    last = bytearray(32_000)  # keeps the end of the heap where it is
    del blocks
    before = resident_mib()
    give_back()
    assert resident_mib() < before - 50
    assert len(last) == 32_000


# --- sets of views ----------------------------------------------------------------------------


def opened(live: Live, key: str, product: str) -> Any:
    fields = {"station": "xray-1", "product": product, "views": ["front"]}
    return live.add("/v1/view-sets", key, **fields)


def test_a_set_of_views_of_a_product_that_is_not_listed_is_refused(live: Live) -> None:
    refused = opened(live, "life-1", "KN-99")
    assert (refused.status_code, refused.json()["code"]) == (404, "product-unknown")


def test_closing_a_set_takes_no_body(live: Live) -> None:
    name = str(opened(live, "life-2", "KN-42").json()["id"])
    place = f"/v1/view-sets/{name}"
    posted = live.post(GOOD, capture_id="life-2", view_set=name, view="front")
    assert posted.status_code == 201
    refused = live.http.post(f"{place}/close", json={"disposition": "pass"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    assert live.http.get(place).json()["closed"] is None
    assert live.http.post(f"{place}/close").status_code == 201
