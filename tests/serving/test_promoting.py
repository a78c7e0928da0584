"""A model is put in force over HTTP: by a key that may, on what its holder has seen, on record."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from inspection.commands.audit import audit
from inspection.registry import Registry
from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_url
from serving.model_schemas import ServedProduct
from tests.live_server import Live, promoted_spot, running, serial, settings_in, until
from tests.serving.test_access import bearer
from tests.spot_model import part_png, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

API = Path(__file__).parents[2] / "docs" / "api.md"
PLACE = "/v1/models/KN-42/promotions"
GOOD = part_png("good")


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, dict[str, str]]]:
    """A server of one product, with packages for two; the texts of its keys by name."""
    site = tmp_path_factory.mktemp("promoting")
    promoted_spot(site / "weights", model="knuckle")
    write_spot_package(site / "weights", product="KN-43", model="other")
    (site / "var").mkdir()
    with closing(AccessKeys(records_url(site / "var"))) as keys:
        texts = {name: keys.create(name, name)[0] for name in ("station", "mes", "qa")}
        with running(settings_in(site)) as live:
            yield live, texts


def tag(live: Live, texts: dict[str, str]) -> str:
    read = live.http.get(PLACE, headers=bearer(texts["qa"]))
    assert read.status_code == 200, read.text
    return str(read.headers["ETag"])


def promote(
    live: Live, key: str, match: str | None, *, place: str = PLACE, **fields: Any
) -> httpx.Response:
    headers = bearer(key) | ({} if match is None else {"If-Match": match})
    sent = {"model": "knuckle", "version": 2, "reason": "shown on six lots", **fields}
    answer: httpx.Response = live.http.post(place, json=sent, headers=headers)
    return answer


def written(live: Live) -> int:
    return len(Registry(live.folder / "weights").history())


def test_what_qa_promotes_judges_the_parts_after_it_and_is_on_record(
    at_work: tuple[Live, dict[str, str]],
) -> None:
    live, texts = at_work
    weights = live.folder / "weights"
    package = write_spot_package(weights, model="knuckle")
    first = tag(live, texts)
    number = package.document.version
    answer = promote(live, texts["qa"], first, version=number)
    assert answer.status_code == 201, answer.text
    shown = ServedProduct.model_validate_json(answer.content)
    assert shown.promotion is not None
    assert (shown.promotion.digest, shown.promotion.by) == (package.digest, "qa over HTTP")
    assert not shown.pending or "will judge as soon as it is warm" in str(shown.detail)

    def product() -> dict[str, Any]:
        (one,) = live.http.get("/v1/models", headers=bearer(texts["mes"])).json()["items"]
        return dict(one)

    until(lambda: not product()["pending"])
    assert live.http.get("/readyz?product=KN-42").status_code == 200
    own = bearer(texts["station"])
    posted = live.post(GOOD, capture_id="after", serial=serial(1), headers=own)
    assert posted.json()["model"]["digest"] == package.digest

    (newest, *_) = live.http.get(PLACE, headers=bearer(texts["mes"])).json()["items"]
    assert (newest["action"], newest["version"]) == ("promote", number)
    assert (newest["by"], newest["reason"]) == ("qa over HTTP", "shown on six lots")
    options = ["--data-dir", str(live.folder / "var"), "--weights-dir", str(weights)]
    told = CliRunner().invoke(audit, [*options, "--format", "json"], catch_exceptions=False)
    acts = [each for each in json.loads(told.stdout) if each["act"] == "model-promote"]
    assert acts[-1]["by"] == "qa over HTTP"
    assert acts[-1]["detail"] == f"{package.reference} for KN-42: shown on six lots"

    # The same sending again, or somebody who had read the page before: nothing is promoted over it.
    count = written(live)
    late = promote(live, texts["qa"], first, version=1)
    assert (late.status_code, late.json()["code"]) == (412, "changed-meanwhile")
    assert "judges KN-42" in late.json()["detail"]
    assert written(live) == count


def test_what_is_refused_leaves_the_log_as_it_was(at_work: tuple[Live, dict[str, str]]) -> None:
    live, texts = at_work
    now = tag(live, texts)
    registry = Registry(live.folder / "weights")
    uncertain = write_spot_package(registry.root, model="unsure", certified=False)
    out = write_spot_package(registry.root, model="out")
    registry.retire(out.reference, reason="blind to the rib")
    now = tag(live, texts)
    count = written(live)
    qa = texts["qa"]
    unknown = "/v1/models/KN-43/promotions"
    unsure = {"model": "unsure", "version": uncertain.document.version}
    for key, match, fields, status, code in (
        (texts["station"], now, {}, 403, "scope-missing"),
        (texts["mes"], now, {}, 403, "scope-missing"),
        (qa, None, {}, 428, "if-match-missing"),
        (qa, '"0123"', {}, 412, "changed-meanwhile"),
        (qa, now, {"model": "nobody"}, 404, "not-found"),
        (qa, now, {"version": 99}, 404, "not-found"),
        (qa, now, {"model": "other", "version": 1}, 422, "invalid-request"),
        (qa, "*", {"model": "other", "version": 1, "place": unknown}, 404, "product-unknown"),
        (qa, now, unsure, 409, "quality-gate"),
        (qa, now, {"model": "out", "version": 1}, 409, "quality-gate"),
        (qa, now, {"model": "../knuckle"}, 422, "invalid-request"),
        (qa, now, {"version": 0}, 422, "invalid-request"),
        (qa, now, {"reason": " "}, 422, "invalid-request"),
        (qa, now, {"reason": "w" * 1001}, 422, "invalid-request"),
        (qa, now, {"reason": "a\u202eb"}, 422, "invalid-request"),
        (qa, now, {"accept_risk": "I know"}, 422, "invalid-request"),
    ):
        answer = promote(live, key, match, **fields)
        said = (answer.status_code, answer.json()["code"])
        assert said == (status, code), (fields, answer.text)
        assert str(live.folder) not in answer.text
        assert ("Retry-After" in answer.headers) is False, answer.text
    assert written(live) == count


def test_two_who_have_seen_the_same_do_not_promote_over_one_another(
    at_work: tuple[Live, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, texts = at_work
    registry = live.server.registry
    load = Registry.load

    def somebody_else_first(self: Registry, reference: str) -> Any:
        monkeypatch.undo()  # between the reading of the log and the writing of the line
        registry.promote("knuckle@1", by="lee")
        return load(self, reference)

    before = tag(live, texts)
    monkeypatch.setattr(Registry, "load", somebody_else_first)
    answer = promote(live, texts["qa"], before, version=1)
    assert (answer.status_code, answer.json()["code"]) == (412, "changed-meanwhile")
    assert registry.history()[-1].by == "lee"


def test_the_command_in_the_documentation_promotes(at_work: tuple[Live, dict[str, str]]) -> None:
    live, texts = at_work
    (block,) = re.findall(
        r"^```console\n(\$ ETAG=.*?/promotions.*?)^```$", API.read_text(), re.MULTILINE | re.DOTALL
    )
    command = re.sub(r"^(\$|>) ", "", block, flags=re.MULTILINE)
    package = write_spot_package(live.folder / "weights", model="knuckle")
    command = command.replace('"version": 2', f'"version": {package.document.version}')
    told = {"PATH": os.environ["PATH"], "SERVER": live.address, "KEY": texts["qa"]}
    done = subprocess.run(
        ["bash", "-euc", command],
        env=told,
        cwd=live.folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    shown = ServedProduct.model_validate_json(done.stdout.splitlines()[-1])
    assert shown.promotion is not None
    assert shown.promotion.digest == package.digest
