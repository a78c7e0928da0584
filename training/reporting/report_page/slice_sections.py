"""The figures of each class, lot, mould, station and view, and of the evidence map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.measuring.heatmap_quality import NEAR_PX
from training.reporting.report_page.markup import Markup, Section, join, table, tag
from training.reporting.report_page.measured_sections import RANKING, SHORT, VERDICTS, figure_cell
from training.reporting.report_page.words import SLICES, counted, exact, percent, span_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.measuring.metrics import SliceFigures
    from training.report import Report

MOST_SLICES = 30  # lines of a table by lot, mould, ...


def classes_section(report: Report) -> Section | None:
    """Every figure of every class, where there are several."""
    test = report.test
    if len(test.class_figures) < 2:
        return None

    def lines(names: Sequence[str]) -> list[Sequence[object]]:
        return [
            (
                name,
                *(
                    figure_cell(own.get(each), each, "test", "class_figures", name, each)
                    for each in names
                ),
            )
            for name, own in test.class_figures.items()
        ]

    overkill = (
        "The overkill of a class counts good parts that fail because of it. AUC and AP of a class "
        "tell parts that show it from all others, good or bad."
    )
    return Section(
        title="By defect class",
        anchor="classes",
        body=join(
            table(("Class", *(SHORT[name] for name in VERDICTS)), lines(VERDICTS)),
            table(("Class", *(SHORT[name] for name in RANKING)), lines(RANKING)),
            tag("p", overkill, class_="note"),
        ),
    )


def slices_section(report: Report) -> Section | None:
    """The same by lot, mould, station and view."""
    slices = report.test.slices
    if not slices:
        return None
    count = sum(len(values) for values in slices.values())
    about = (
        f"Of {count} lines, about one in twenty will lie outside its own interval by chance: look "
        "for what stands out beyond the intervals of the others. Where fewer than ten parts of a "
        "kind were judged there are counts, and no rate."
    )
    return Section(
        title="By lot, mould, station and view",
        anchor="slices",
        body=join(tag("p", about), *(_slices(field, values) for field, values in slices.items())),
    )


def heatmap_section(report: Report) -> Section | None:
    """How well the evidence shows where the defect is."""
    heatmap = report.test.heatmap
    if not heatmap:
        return None
    rows = []
    for name, quality in heatmap.items():
        place = ("test", "heatmap", name)
        rows.append(
            (
                "all classes, as drawn" if name == "all" else name,
                f"{quality.marked_images:,} of {quality.images:,}",
                exact(quality.regions, f"{quality.regions:,}", *place, "regions"),
                figure_cell(quality.pixel_auroc, "auc", *place, "pixel_auroc"),
                figure_cell(quality.aupro, "auc", *place, "aupro"),
                figure_cell(quality.pointing_game, "accuracy", *place, "pointing_game"),
                figure_cell(quality.pointing_near, "accuracy", *place, "pointing_near"),
            )
        )
    about = (
        "Pixel AUROC: chance that a pixel of a defect is hotter than one outside. AUPRO: how much "
        "of each marked spot is covered while few other pixels are (false positives up to 30 %). "
        "Pointing game: how often the hottest pixel lies in a defect, and how often in one or "
        f"within {NEAR_PX} pixels of one."
    )
    headings = (
        *("Class", "Marked images", "Spots", "Pixel AUROC", "AUPRO"),
        *("Pointing game", f"Within {NEAR_PX} px"),
    )
    return Section(
        title="Quality of the evidence map",
        anchor="heatmap",
        body=join(table(headings, rows), tag("p", about, class_="note")),
    )


def _slices(field: str, values: Mapping[str, SliceFigures]) -> Markup:
    one, many = SLICES.get(field, (field, f"{field}s"))
    ranked = sorted(values, key=lambda name: (-values[name].escapes, -values[name].overkills, name))
    rows = []
    for name in ranked[:MOST_SLICES]:
        own = values[name]
        place = ("test", "slices", field, name)
        rows.append(
            (
                name,
                exact(own.parts, f"{own.parts:,}", *place, "parts"),
                exact(own.bad_parts, f"{own.bad_parts:,}", *place, "bad_parts"),
                _rate(own, "escape_rate", own.escapes, "escapes", *place),
                _rate(own, "overkill_rate", own.overkills, "overkills", *place),
                _rate(own, "review_rate", own.reviews, "reviews", *place),
                figure_cell(own.figures.get("auc"), "auc", *place, "figures", "auc"),
            )
        )
    caption = f"By {one}: {counted(len(values), one, many)}, most escapes first"
    if len(values) > MOST_SLICES:
        caption += f"; the first {MOST_SLICES} of them, all are in report.json"
    what = "Images" if field == "view" else "Parts"
    headings = (one.capitalize(), what, "Bad", "Escapes", "Overkill", "Review", "AUC")
    return table(headings, rows, caption=caption)


def _rate(own: SliceFigures, name: str, count: int, key: str, *place: str) -> Markup:
    """The rate where it rests on parts enough; else only the count."""
    figure = own.figures.get(name)
    if figure is None:
        return tag("span", exact(count, f"{count:,}", *place, key), class_="few")
    where = (*place, "figures", name)
    return join(
        tag("strong", exact(count, f"{count:,}", *place, key)),
        tag(
            "span",
            tag("br"),
            span_of(figure.low, figure.high, percent, (*where, "low"), (*where, "high")),
            class_="quiet",
        ),
    )
