"""report.json, its schema, the verb `inspection report`, and what training says at its end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inspection.cli import main
from inspection.errors import DataError
from inspection.package import CONTENT, PackageDocument, write_package
from inspection.recipe import Recipe
from inspection.verdict import Calibration, OperatingPoint
from tests.report_cases import plates_report
from training.commands.show import MOST_WARNINGS, WIDTH, summary_lines
from training.report import (
    Report,
    certificate_of,
    parse_report,
    report_bytes,
    report_schema,
    settings_card,
)
from training.reporting.report_page.page import render_report

FIGURE = {
    "value": 0.1,
    "low": 0.0,
    "high": 0.3,
    "naive_low": 0.0,
    "naive_high": 0.2,
    "parts": 40,
    "groups": 4,
    "hits": 4,
}
FORMER: dict[str, Any] = {  # as the first release wrote it
    "format": 1,
    "data": {
        "name": "plates",
        "product": "KN-42",
        "digest": "d" * 64,
        "licence": "CC0-1.0",
        "origin": "made for tests",
        "classes": ["scratch"],
        "counts": {"images": 120, "parts": 120, "groups": 12, "bad_parts": 48},
        "labels": {"good": 72, "scratch": 48},
        "images": {"bits": 8, "channels": 1, "grey_range": [0, 255], "frame_size_px": [48, 48]},
    },
    "split": {
        "by": "group",
        "seed": 3,
        "digest": "e" * 64,
        "fractions": [0.6, 0.15, 0.25],
        "sides": {
            side: {"images": 40, "parts": 40, "bad_parts": 16, "groups": 4}
            for side in ("fit", "calibrate", "test")
        },
    },
    "settings": {"preset": "fast", "flips": ["horizontal"]},
    "limits": {
        "slope": [1.0],
        "intercept": [0.0],
        "pass_below": [0.1],
        "fail_from": [0.7],
        "novelty_limit": 2.0,
        "review_share": 0.1,
        "review_budget": 0.15,
        "wanted_escape_rate": 0.2,
        "escape_bound": 0.3,
        "naive_escape_bound": 0.25,
        "confidence": 0.95,
        "escapes": 1,
        "bad_parts": 16,
        "groups": 4,
        "design_effect": 1.5,
        "effective_bad_parts": 10.7,
        "certified": False,
        "more_bad_parts_needed": 9,
        "in_words": "cannot certify 20 %: about 9 more bad parts needed",
    },
    "test": {
        "confidence": 0.95,
        "parts": 40,
        "bad_parts": 16,
        "groups": 4,
        "dispositions": {
            "good": {"pass": 20, "review": 2, "fail": 2},
            "bad": {"pass": 1, "review": 2, "fail": 13},
        },
        "classes": {"scratch": {"bad_parts": 16, "escapes": 1}},
        "figures": {"escape_rate": FIGURE, "auc": {**FIGURE, "value": 0.9, "hits": None}},
    },
    "comparison": None,
    "precision": {
        "engine_choice": "bf16",
        "chosen": "f32",
        "parts": 40,
        "whole": True,
        "flips": {"pass -> review": 1},
        "bad_to_pass": 0,
        "largest_difference": 0.01,
        "ms_per_image": {"f32": 3.0, "bf16": 2.0},
        "reason": "the default",
    },
    "engine": "OpenVINO CPU f32",
    "licences": {"data": "CC0-1.0"},
    "environment": {"inspection": "0.1.0"},
    "warnings": [],
    "timings_s": {"fit": 3.0, "all": 3.0},
    "history": [{"stage": "head", "epoch": 1, "loss": 0.4}],
    "seen": ["a" * 64, "b" * 64],
}


@pytest.fixture(scope="module")
def report() -> Report:
    return plates_report(("scratch", "pore"))


def package_with(folder: Path, report_json: bytes, page: bytes | None) -> Path:
    """A package whose network is a placeholder; its report is real."""
    certificate = certificate_of(parse_report(report_json))
    document = PackageDocument(
        model="plates",
        version=1,
        created_at="2026-11-21T08:00:00Z",
        code_version="0.1.0",
        backbone="none",
        preset="fast",
        precision="f32",
        data_digest="d" * 64,
        calibration=Calibration(slope=(1.0,), intercept=(0.0,)),
        operating_point=OperatingPoint(
            pass_below=(0.1,),
            fail_from=(0.7,),
            novelty_limit=2.0,
            split_digest="e" * 64,
            certificate=certificate,
        ),
    )
    recipe = Recipe(
        product="KN-42",
        modality="vision",
        bits=8,
        channels=1,
        input_size_px=(64, 64),
        window=(0.0, 255.0),
        classes=("scratch",),
    )
    files: dict[str, bytes | Path] = {
        "model.onnx": b"",
        "model.safetensors": b"",
        "report.json": report_json,
    }
    if page is not None:
        others = set(CONTENT[max(CONTENT)]) - {*files, "recipe.toml"}
        files |= {**dict.fromkeys(others, b""), "report.html": page}
    return write_package(folder, document, recipe, files).folder


@pytest.fixture
def package(tmp_path: Path, report: Report) -> Path:
    return package_with(tmp_path / "weights", report_bytes(report), render_report(report))


def test_a_report_reads_back_as_it_was_written(report: Report) -> None:
    assert parse_report(report_bytes(report)) == report
    assert b'"seen"' not in report_bytes(report)


def test_reports_of_the_first_release_still_read_and_render() -> None:
    former = parse_report(json.dumps(FORMER))
    assert former.seen == ("a" * 64, "b" * 64)
    assert json.loads(report_bytes(former))["seen"] == FORMER["seen"]
    certificate = certificate_of(former)
    assert (certificate.escape_bound, certificate.bad_parts) == (0.3, 16)
    page = render_report(former).decode()
    assert "Not certified" in page
    assert "9 more bad parts needed" in page


def test_a_file_that_is_no_report_is_refused() -> None:
    with pytest.raises(DataError, match="not a report of `inspection train`"):
        parse_report(b"{}")
    odd = {**FORMER, "surprise": 1}
    with pytest.raises(DataError, match="surprise"):
        parse_report(json.dumps(odd))


def test_the_schema_names_every_field_and_says_which_are_required(report: Report) -> None:
    schema = report_schema()
    document = json.loads(report_bytes(report))
    assert set(document) <= set(schema["properties"])
    assert set(schema["required"]) == set(FORMER) - {"format", "history", "seen"}
    card = schema["$defs"]["FiguresCard"]
    assert set(document["test"]) == set(card["properties"])
    assert card["properties"]["figures"]["additionalProperties"] == {"$ref": "#/$defs/Figure"}
    figure = schema["$defs"]["Figure"]
    assert {"value", "low", "high", "parts", "groups"} <= set(figure["required"])
    assert schema["additionalProperties"] is False


def test_the_verb_prints_where_the_page_lies(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(package)]) == 0
    assert capsys.readouterr().out == f"{package}/report.html\n"
    weights = str(package.parent.parent)
    assert main(["report", "plates@1", "--weights-dir", weights]) == 0
    assert capsys.readouterr().out == f"{package}/report.html\n"


def test_a_copy_can_be_written_and_carries_the_digest(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "stick" / "plates.html"
    assert main(["report", str(package), "--out", str(copy)]) == 0
    assert capsys.readouterr().out == f"{copy}\n"
    digest = (package / "package.sha256").read_text()[:64]
    assert digest in copy.read_text()
    (tmp_path / "file").write_text("")
    assert main(["report", str(package), "--out", str(tmp_path / "file" / "x.html")]) == 4
    assert "folder that you may write to" in capsys.readouterr().err


def test_figures_and_schema_come_as_json(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(package), "--format", "json"]) == 0
    assert capsys.readouterr().out.encode() == (package / "report.json").read_bytes()
    figures = tmp_path / "figures.json"
    assert main(["report", str(package), "--format", "json", "--out", str(figures)]) == 0
    assert figures.read_bytes() == (package / "report.json").read_bytes()
    capsys.readouterr()
    assert main(["report", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == report_schema()


def test_without_a_screen_the_path_is_printed_and_nothing_hangs(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["report", str(package), "--open"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{package}/report.html\n"
    assert "no browser could be opened here" in err


def test_a_package_of_an_earlier_release_gets_its_page_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = package_with(tmp_path / "weights", json.dumps(FORMER).encode(), None)
    assert main(["report", str(package)]) == 3
    assert "--out FILE` makes one" in capsys.readouterr().err
    copy = tmp_path / "plates.html"
    assert main(["report", str(package), "--out", str(copy)]) == 0
    text = copy.read_text()
    assert "plates@1" in text
    assert (package / "package.sha256").read_text()[:64] in text


def test_wrong_use_is_said(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report"]) == 2
    assert "MODEL@VERSION or a folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 3
    assert "no model package in" in capsys.readouterr().err
    assert main(["report", "plates@9", "--weights-dir", str(tmp_path / "weights")]) == 3
    assert "there is no model plates@9" in capsys.readouterr().err
    assert main(["report", str(package), "--format", "json", "--open"]) == 2
    with (package / "report.html").open("ab") as file:
        file.write(b"<p>better")
    assert main(["report", str(package)]) == 4
    assert "does not agree with its digest" in capsys.readouterr().err


def test_settings_keep_where_they_came_from() -> None:
    text = (
        'preset = "fast"   # --preset\n\n[fit]\nhidden = 128     # the default\n'
        'backbone = "a  # b"  # knuckles/training.toml\n# weights is not set\n'
    )
    settings, origins = settings_card(text)
    assert settings == {"preset": "fast", "fit.hidden": 128, "fit.backbone": "a  # b"}
    assert origins == {
        "preset": "--preset",
        "fit.hidden": "the default",
        "fit.backbone": "knuckles/training.toml",
    }


def test_the_summary_of_a_training_fits_a_terminal(report: Report) -> None:
    lines = summary_lines(report)
    assert len(lines) <= 23
    assert max(map(len, lines)) <= WIDTH
    text = " ".join(" ".join(lines).split())
    assert report.certificate is not None
    assert f"certificate: {report.certificate.in_words()}" in text
    assert "plates@3, measured on" in text
    for name in ("escape rate (bad passed)", "overkill rate", "ROC AUC"):
        assert name in text


def test_many_long_warnings_do_not_push_the_figures_off_the_screen(report: Report) -> None:
    flood = replace(report, warnings=tuple(f"class {n}: " + "too few parts " * 9 for n in range(9)))
    lines = summary_lines(flood)
    assert len(lines) <= 23
    assert sum(line.startswith("warning: ") for line in lines) <= MOST_WARNINGS
    assert any("in the report" in line for line in lines)
