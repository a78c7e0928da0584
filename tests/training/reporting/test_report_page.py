"""The page that a QA engineer signs: self-contained, safe, and true to report.json."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from inspection.verdict import Certificate
from tests.labelled_sets import bare_manifest, import_folders, write_folders
from tests.report_cases import (
    evaluated,
    flat_calibration,
    plates_report,
    predicted,
    report_of,
    rows_of,
)
from training.report import Report, report_bytes
from training.reporting.report_page.charts import Axis, Chart
from training.reporting.report_page.markup import VOID, tag
from training.reporting.report_page.page import render_report
from training.reporting.report_page.pictures import Pictures, choose_examples, take_pictures
from training.reporting.report_page.stamp import stamped
from training.reporting.report_page.words import fraction, percent

HOSTILE = "<img src=x onerror=alert(1)>\"'&{lot}-{part}"


class Checked(HTMLParser):
    """Fails on a tag that is not closed, and gathers what a test asks about."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[tuple[str, float, str]] = []
        self.text = ""
        self._key: tuple[str, float] | None = None
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "data":
            self._key = (str(found["data-key"]), float(str(found["value"])))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data
        if self._key is not None:
            self.figures.append((*self._key, data))
            self._key = None


def at(document: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) names."""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


@pytest.fixture(scope="module")
def report() -> Report:
    return plates_report(("scratch", "기공"))


@pytest.fixture(scope="module")
def page(report: Report) -> bytes:
    return render_report(report)


def test_the_page_is_whole_and_loads_nothing(page: bytes) -> None:
    checked = Checked(page)
    names = {name for name, _ in checked.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in checked.tags:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("src", "href", "srcset", "xlink:href", "action", "poster", "data"):
                assert str(value).startswith(("#", "data:image/jpeg;base64,"))
    text = page.decode()
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    policies = [found.get("content") for name, found in checked.tags if name == "meta"]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in policies
    assert text.startswith("<!DOCTYPE html>")


def test_every_figure_on_the_page_is_the_one_in_report_json(report: Report, page: bytes) -> None:
    document = json.loads(report_bytes(report))
    figures = Checked(page).figures
    assert len(figures) > 150
    for key, value, text in figures:
        assert at(document, key) == value, key
        shown = re.search(r"-?[\d,]*\.?\d+(e-?\d+)?", text)
        assert shown is not None, (key, text)
        number = shown.group().replace(",", "")
        decimals = len(number.partition(".")[2]) if "e" not in number else 12
        unit = 100.0 if "%" in text else 1.0
        near = min(abs(float(number) - value), abs(float(number) - 100 * value))
        if key.startswith("/test/") and "%" in text:
            near = abs(float(number) - unit * value)
        if len(number.replace(".", "").lstrip("0")) < 4 or decimals:
            assert near <= 10.0**-decimals, (key, value, text)
    said = {key for key, _, _ in figures}
    for name in report.test.figures:
        for part in ("value", "low", "high", "naive_low", "naive_high", "parts", "groups"):
            assert f"/test/figures/{name}/{part}" in said
    assert "/certificate/escape_bound" in said


def test_intervals_are_rounded_outwards() -> None:
    assert percent(0.01949, 1) == "2.0 %"
    assert percent(0.01949, -1) == "1.9 %"
    assert percent(0.29, 1) == percent(0.29, -1) == "29.0 %"
    assert percent(0.00401, 1) == "0.41 %"
    assert fraction(0.9312, 1) == "0.932"
    assert fraction(0.9312, -1) == "0.931"
    assert percent(0.0) == "0.0 %"


def test_hostile_names_stay_text() -> None:
    manifest = replace(
        bare_manifest(rows_of(16, 10, ("scratch",), name=HOSTILE)),
        name="</title><script>alert(1)</script>",
        licence="<b onclick=alert(1)>CC",
        origin="</style><img src=http://evil.example/x>",
    )
    made = report_of(manifest)
    hostile = replace(
        made,
        identity=None,
        warnings=("<svg/onload=alert(1)>",),
        settings={"<i>": "</td><script>"},
        environment={"engine": "a & b <c>"},
    )
    page = render_report(hostile)
    checked = Checked(page)
    names = {name for name, _ in checked.tags}
    assert not names & {"script", "b", "i", "c", "img"}
    assert all(not key.startswith("on") for _, found in checked.tags for key in found)
    assert "</title><script>alert(1)</script>" in checked.text
    assert "evil.example" in checked.text


def test_a_reference_that_means_something_in_css_does_not_reach_the_style_sheet(
    report: Report,
) -> None:
    assert report.identity is not None
    evil = replace(report, identity=replace(report.identity, model='x"; } </style><script>'))
    assert b"<script" not in render_report(evil)


def test_equal_reports_give_equal_pages(report: Report, page: bytes) -> None:
    assert render_report(report) == page
    assert b"/tmp" not in page
    assert b"/home" not in page


def test_the_page_says_what_a_person_signs(report: Report, page: bytes) -> None:
    text = Checked(page).text
    assert report.certificate is not None
    words = report.certificate.in_words().replace(" %", "\u00a0%")
    assert words[1:] in text
    assert "Not certified" in text
    for what in ("Prepared", "Checked", "Approved", "May be used", "May not be used"):
        assert what in text
    assert "기공" in text
    assert "Nothing crosses" in text
    assert "where it came from" not in text
    assert "the preset's default" in text


def test_a_certified_model_says_so(report: Report) -> None:
    held = Certificate(
        wanted_escape_rate=0.02,
        escape_bound=0.0185,
        naive_escape_bound=0.0183,
        confidence=0.95,
        bad_parts=162,
        groups=37,
        certified=True,
        more_bad_parts_needed=0,
        measured_on="test",
    )
    text = Checked(render_report(replace(report, certificate=held))).text
    assert "Not certified" not in text
    assert "Escape rate at most 1.9\u00a0% at 95\u00a0% confidence, from 162 bad parts" in text
    assert "read once" in text
    assert "until the certificate holds" not in text


def test_what_was_not_measured_is_said(report: Report) -> None:
    text = Checked(render_report(report)).text
    assert "no marked defects" in text
    assert "no mould or view" in text
    assert "The images carry no dates" in text
    assert "other engines give the same verdicts was not measured" in text


def test_a_set_without_bad_test_parts_says_that_escapes_are_unknown(report: Report) -> None:
    kept = {k: v for k, v in report.test.figures.items() if k in ("overkill_rate", "review_rate")}
    good = replace(
        report.test,
        bad_parts=0,
        figures=kept,
        class_figures={},
        reliability={},
        classes={"anomaly": {"bad_parts": 0, "escapes": 0}},
        curves=replace(report.test.curves, roc=(), precision_recall=()),
    )
    assert report.certificate is not None
    nothing = replace(
        report.certificate,
        bad_parts=0,
        groups=0,
        escapes=0,
        escape_bound=1.0,
        naive_escape_bound=1.0,
        certified=False,
    )
    assert report.identity is not None
    identity = replace(report.identity, preset="anomaly")
    text = Checked(
        render_report(replace(report, test=good, certificate=nothing, identity=identity))
    ).text
    assert "how many bad parts would pass is unknown" in text
    assert "no bad part was judged" in text
    assert "made from good parts alone" in text
    assert "To find what is unlike the good parts" in text, "though the set names kinds of defect"
    assert "To find: scratch" not in text


def test_a_copy_carries_the_digest_of_the_package(page: bytes) -> None:
    digest = "5" * 64
    assert digest not in page.decode()
    assert digest in Checked(stamped(page, digest)).text


def test_examples_show_the_worst_first_and_the_images_stay_small(tmp_path: Any) -> None:
    manifest = import_folders(write_folders(tmp_path / "line"), tmp_path / "datasets")
    made = report_of(manifest)
    from inspection.package import PackageDocument
    from inspection.verdict import OperatingPoint
    from training.recipe_for import recipe_for

    recipe = recipe_for(manifest, input_size_px=(64, 64))
    assert made.certificate is not None
    point = OperatingPoint(
        pass_below=(0.3,),
        fail_from=(0.6,),
        novelty_limit=9.0,
        split_digest="0" * 64,
        certificate=made.certificate,
    )
    document = PackageDocument(
        model="plates",
        version=1,
        created_at="2026-11-21T08:00:00Z",
        code_version="0.1.0",
        backbone="none",
        preset="fast",
        precision="f32",
        data_digest=manifest.digest,
        calibration=flat_calibration(1),
        operating_point=point,
    )
    numbers = list(range(len(manifest.rows)))
    answers = predicted(manifest, numbers, seed=4)
    evaluation = evaluated(manifest, recipe, answers, point)
    pictures = take_pictures(
        manifest, recipe, document, answers, evaluation.parts, fit_rows=np.array(numbers[:40])
    )
    kinds = [example.kind for example in pictures.examples]
    assert kinds == sorted(
        kinds, key=["escape", "overkill", "near escape", "found", "passed"].index
    )
    escapes = [e.probabilities["scratch"] for e in pictures.examples if e.kind == "escape"]
    assert escapes
    assert escapes == sorted(escapes)
    assert all(example.plain.startswith(b"\xff\xd8") for example in pictures.examples)
    page = render_report(made, pictures)
    assert len(page) < 3_000_000
    checked = Checked(page)
    images = [found for name, found in checked.tags if name == "img"]
    assert len(images) == len(pictures.samples) + 2 * len(pictures.examples)
    assert all(found["alt"] for found in images)
    again, left = choose_examples(evaluation.parts)
    assert len(again) == len(pictures.examples)
    assert sum(left.values()) + len(again) == len(evaluation.parts) - sum(
        not part.bad and part.disposition == "review" for part in evaluation.parts
    )


def test_no_pictures_no_chapter_of_examples(page: bytes) -> None:
    assert "Examples" not in Checked(page).text
    assert Pictures() == Pictures()


def test_markup_escapes_all_but_markup() -> None:
    assert tag("td", "a < b", class_='"x"') == '<td class="&quot;x&quot;">a &lt; b</td>'
    assert tag("p", tag("b", "&"), None, 3) == "<p><b>&amp;</b>3</p>"
    assert tag("meta", name="x", hidden=True, other=False) == '<meta name="x" hidden>'


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_axis_without_numbers_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        Axis(label="x", high=bad)


def test_ticks_are_round_and_a_flat_range_is_widened() -> None:
    assert Axis(label="x").ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert len(Axis(label="x", low=1, high=1).ticks()) >= 2
    drawn = Chart(x=Axis(label="x"), y=Axis(label="y")).line([0, 1], [0, 5], "main").drawn("title")
    assert 'points="52,220 368,10"' in drawn
