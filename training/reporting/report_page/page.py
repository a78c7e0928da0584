"""The page as a whole: cover, contents, chapters, in the order in which a person needs them."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

from training.reporting.report_page.cover import cover, unknowns
from training.reporting.report_page.data_sections import (
    data_section,
    split_section,
    training_section,
)
from training.reporting.report_page.limit_sections import (
    calibration_section,
    certificate_section,
    limits_section,
)
from training.reporting.report_page.markup import Markup, Section, items, join, tag
from training.reporting.report_page.measured_sections import curves_section, figures_section
from training.reporting.report_page.pictures import Pictures
from training.reporting.report_page.running_sections import (
    engines_section,
    examples_section,
    licences_section,
    making_section,
)
from training.reporting.report_page.slice_sections import (
    classes_section,
    heatmap_section,
    slices_section,
)
from training.reporting.report_page.words import glossary

if TYPE_CHECKING:
    from training.report import Report

NO_PICTURES = Pictures()
# Bars of bad parts are hatched, so that they are told apart without colour too.
HATCH = Markup(
    '<svg class="defs" aria-hidden="true"><defs><pattern id="hatch" width="5" height="5" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" '
    'fill="#fff"/><line x1="1" y1="0" x2="1" y2="5" stroke="#c2410c" stroke-width="2"/></pattern>'
    "</defs></svg>"
)


def render_report(report: Report, pictures: Pictures = NO_PICTURES) -> bytes:
    """report.html: everything in one file, UTF-8.

    Args:
        report: the figures, the same as in report.json.
        pictures: samples and examples; without them the page has figures only.
    """
    chapters = [section for section in _sections(report, pictures) if section is not None]
    identity = report.identity
    reference = report.data.name if identity is None else identity.reference
    title = f"Model report {reference}, {report.data.product}"
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            # Nothing may be fetched from anywhere, whatever somebody managed to write into a name.
            tag(
                "meta",
                http_equiv="Content-Security-Policy",
                content="default-src 'none'; img-src data:; style-src 'unsafe-inline'",
            ),
            tag("title", title),
            tag("style", Markup(_style(reference))),
        ),
        tag(
            "body",
            HATCH,
            tag(
                "main",
                cover(report),
                _contents(chapters),
                *(_chapter(number, section) for number, section in enumerate(chapters, start=1)),
            ),
        ),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n".encode()


def _sections(report: Report, pictures: Pictures) -> list[Section | None]:
    return [
        certificate_section(report),
        Section(title="What is not known", anchor="unknown", body=items(unknowns(report))),
        figures_section(report),
        classes_section(report),
        slices_section(report),
        examples_section(report, pictures),
        heatmap_section(report),
        limits_section(report),
        calibration_section(report),
        curves_section(report),
        engines_section(report),
        data_section(report, pictures),
        split_section(report),
        training_section(report),
        making_section(report),
        licences_section(report),
        Section(title="Words", anchor="words", body=glossary()),
    ]


def _contents(chapters: list[Section]) -> Markup:
    entries = (
        tag("li", tag("a", f"{number}  {section.title}", href=f"#{section.anchor}"))
        for number, section in enumerate(chapters, start=1)
    )
    note = (
        "Every figure here is also in report.json, with all its digits. Intervals are rounded "
        "outwards and bounds upwards."
    )
    return tag(
        "nav",
        tag("h2", "Contents"),
        tag("ul", *entries, class_="contents"),
        tag("p", note, class_="note"),
    )


def _chapter(number: int, section: Section) -> Markup:
    return tag("section", tag("h2", f"{number}  {section.title}"), section.body, id=section.anchor)


def _style(reference: str) -> str:
    """The style sheet, and what stands below every printed page."""
    sheet = (files("training.reporting.report_page") / "style.css").read_text(encoding="utf-8")
    # A name of a package holds nothing that means something in CSS; another name is left out.
    name = reference if re.fullmatch(r"[\w.@-]+", reference, flags=re.ASCII) else ""
    footer = (
        f'@page {{ @bottom-left {{ content: "{name}"; }} '
        '@bottom-right { content: counter(page) " / " counter(pages); } }\n'
        "@page { @bottom-left { font: 8pt sans-serif; color: #545d66; } "
        "@bottom-right { font: 8pt sans-serif; color: #545d66; } }"
    )
    return join(Markup(sheet), Markup(footer))
