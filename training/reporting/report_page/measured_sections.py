"""What was measured on all test parts together: figures, verdicts against truth, curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.reporting.report_page.charts import Axis, Chart
from training.reporting.report_page.charts import percent as percent_tick
from training.reporting.report_page.markup import Markup, Section, join, table, tag
from training.reporting.report_page.words import (
    NAMES,
    bare,
    counted,
    exact,
    form_of,
    fraction,
    percent,
    span_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.measuring.metrics import Figure
    from training.report import Report
    from training.reporting.report_cards import BandPoint, FiguresCard

DISPOSITIONS = ("pass", "review", "fail")
VERDICTS = ("escape_rate", "overkill_rate", "review_rate")
RANKING = ("auc", "average_precision", "f1")
SHORT = {
    "escape_rate": "Escape",
    "overkill_rate": "Overkill",
    "review_rate": "Review",
    "auc": "AUC",
    "average_precision": "AP",
    "f1": "F1",
}


def figures_section(report: Report) -> Section:
    """The table of figures, and what was decided on good and on bad parts."""
    test = report.test
    intro = (
        f"Measured on {counted(test.parts, 'test part')} ({test.bad_parts:,} bad) in "
        f"{counted(test.groups, 'group')}, which neither the fit nor the limits have seen, through "
        f"the packaged model on {report.engine}. They were read once."
    )
    return Section(
        title="Figures on the test parts",
        anchor="figures",
        body=join(
            tag("p", intro),
            figures_table(test),
            _missing_figures(test),
            confusion_table(test),
            _comparison(report),
        ),
    )


def figures_table(test: FiguresCard, names: Sequence[str] | None = None) -> Markup:
    """A line for every figure: value, both intervals, parts and groups."""
    level = f"{100 * test.confidence:.4g} %"
    rows = []
    for name in names or list(test.figures):
        figure = test.figures.get(name)
        if figure is None:
            continue
        title, what = NAMES.get(name, (name, ""))
        place = ("test", "figures", name)
        form = form_of(name)
        rows.append(
            (
                join(title, tag("span", f" – {what}", class_="quiet") if what else None),
                tag("strong", exact(figure.value, form(figure.value), *place, "value")),
                span_of(figure.low, figure.high, form, (*place, "low"), (*place, "high")),
                span_of(
                    figure.naive_low,
                    figure.naive_high,
                    form,
                    (*place, "naive_low"),
                    (*place, "naive_high"),
                ),
                sample_of(figure, *place),
                exact(figure.groups, f"{figure.groups:,}", *place, "groups"),
            )
        )
    headings = ("Figure", "Value", f"{level} interval", "As if independent", "Parts", "Groups")
    caption = (
        "The first interval counts with groups whose parts resemble each other, and is the one to "
        "use; rounded outwards."
    )
    return table(headings, rows, caption=caption, class_="key-figures")


def confusion_table(test: FiguresCard) -> Markup:
    """What became of good parts, and of those that show each class."""
    counts = test.confusion or test.dispositions
    where = "confusion" if test.confusion else "dispositions"
    several = len(counts) > 2
    rows = []
    for truth, said in counts.items():
        total = max(1, sum(said.values()))
        cells: list[object] = [truth]
        for name in DISPOSITIONS:
            n = said.get(name, 0)
            wrong = (name == "pass") if truth != "good" else (name == "fail")
            text = exact(n, f"{n:,}", "test", where, truth, name)
            share = tag("span", f" {percent(n / total)}", class_="quiet")
            cells.append(tag("span", text, share, class_="wrong" if wrong and n else None))
        cells.append(f"{sum(said.values()):,}")
        rows.append(cells)
    caption = "Truth in lines, verdict in columns."
    if several:
        caption += " A part with two defects counts in the line of each."
    headings = ("Truth", "Pass", "Review", "Fail", "Parts")
    return table(headings, rows, caption=caption, class_="confusion")


def curves_section(report: Report) -> Section | None:
    """ROC, precision against recall, and risk against coverage."""
    test, bands = report.test, report.bands
    curves = test.curves
    charts = []
    if curves.roc:
        chart = Chart(
            x=Axis(label="good parts called bad", form=percent_tick),
            y=Axis(label="bad parts found", form=percent_tick),
        )
        _band(chart, bands.roc)
        chart.line([0, 1], [0, 1], "chance", "guessing")
        chart.line(
            [0.0, *(point.false_positive_rate for point in curves.roc)],
            [0.0, *(point.true_positive_rate for point in curves.roc)],
            "main",
            "test parts",
        )
        charts.append(chart.drawn("ROC curve", _area(test, "auc")))
    if curves.precision_recall:
        share = test.bad_parts / max(1, test.parts)
        chart = Chart(
            x=Axis(label="bad parts found (recall)", form=percent_tick),
            y=Axis(label="bad among those called bad (precision)", form=percent_tick),
        )
        _band(chart, bands.precision_recall)
        chart.line([0, 1], [share, share], "chance", "guessing")
        chart.line(
            [point.recall for point in curves.precision_recall],
            [point.precision for point in curves.precision_recall],
            "main",
            "test parts",
        )
        charts.append(chart.drawn("Precision and recall", _area(test, "average_precision")))
    if curves.risk_coverage:
        top = max(
            [0.02]
            + [point.risk for point in curves.risk_coverage]
            + [point.high for point in bands.risk_coverage if point.x > 0.1]
        )
        chart = Chart(
            x=Axis(label="parts decided by the machine (coverage)", form=percent_tick),
            y=Axis(label="wrong among these (risk)", high=min(1.0, 1.05 * top), form=percent_tick),
        )
        _band(chart, bands.risk_coverage)
        chart.line(
            [point.coverage for point in curves.risk_coverage],
            [point.risk for point in curves.risk_coverage],
            "main",
            "test parts",
        )
        decided = 1 - test.figures["review_rate"].value if "review_rate" in test.figures else None
        if decided is not None:
            chart.upright(decided, "limit-pass", "decided at the chosen limits")
        note = (
            "The surest parts first, each put on the side of one half that its probability lies on."
        )
        charts.append(chart.drawn("Coverage against risk", note))
    if not charts:
        return None
    about = (
        "Each band is the 95 % interval of the curve's height at one limit, resampled by group; it "
        "does not hold for the whole curve at once."
    )
    return Section(
        title="Curves",
        anchor="curves",
        body=join(
            tag("div", *charts, class_="charts"),
            tag("p", about, class_="note") if bands.roc else None,
        ),
    )


def figure_cell(figure: Figure | None, name: str, *place: str) -> Markup | str:
    """Value, interval and count in one cell; a dash where it was not measured."""
    if figure is None:
        return "–"
    form = form_of(name)
    interval = tag(
        "span",
        tag("br"),
        span_of(figure.low, figure.high, bare(form), (*place, "low"), (*place, "high")),
        tag("br"),
        sample_of(figure, *place),
        class_="quiet",
    )
    return join(tag("strong", exact(figure.value, form(figure.value), *place, "value")), interval)


def sample_of(figure: Figure, *place: str) -> Markup:
    parts = exact(figure.parts, f"{figure.parts:,}", *place, "parts")
    if figure.hits is None:
        return parts
    return join(exact(figure.hits, f"{figure.hits:,}", *place, "hits"), " of ", parts)


def _missing_figures(test: FiguresCard) -> Markup | None:
    missing = [NAMES[name][0] for name in NAMES if name not in test.figures]
    if not missing or test.bad_parts:
        return None
    text = (
        f"Not measured: {', '.join(missing)}. There is no bad part among the test parts, so how "
        "many bad parts would escape is unknown."
    )
    return tag("div", tag("p", text), class_="beware")


def _comparison(report: Report) -> Markup | None:
    """The same under a random split, side by side and labelled."""
    other = report.comparison
    if other is None:
        return None
    rows = []
    for name, ours in report.test.figures.items():
        theirs = other.get("figures", {}).get(name)
        if theirs is None:
            continue
        form, place = form_of(name), ("comparison", "figures", name)
        rows.append(
            (
                NAMES.get(name, (name, ""))[0],
                form(ours.value),
                exact(theirs["value"], form(theirs["value"]), *place, "value"),
                span_of(theirs["low"], theirs["high"], form, (*place, "low"), (*place, "high")),
            )
        )
    headings = ("Figure", "This model", "Random split", "Its interval")
    return join(
        tag("h3", "A random split, for comparison only"),
        tag("p", str(other.get("why", ""))),
        table(headings, rows),
    )


def _band(chart: Chart, points: Sequence[BandPoint]) -> None:
    if points:
        chart.band(
            [point.x for point in points],
            [point.low for point in points],
            [point.high for point in points],
            "main",
            "95 % interval, by group",
        )


def _area(test: FiguresCard, name: str) -> Markup | None:
    figure = test.figures.get(name)
    if figure is None:
        return None
    place = ("test", "figures", name)
    return join(
        f"{SHORT[name]} ",
        exact(figure.value, fraction(figure.value), *place, "value"),
        ", 95 % interval ",
        span_of(figure.low, figure.high, fraction, (*place, "low"), (*place, "high")),
    )
