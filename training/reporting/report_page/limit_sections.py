"""What was settled on the calibration parts: probabilities, limits, and what these hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.report import certificate_of
from training.reporting.report_page.charts import Axis, Chart
from training.reporting.report_page.charts import percent as percent_tick
from training.reporting.report_page.markup import Markup, Section, facts, items, join, table, tag
from training.reporting.report_page.words import counted, exact, four, fraction, percent

if TYPE_CHECKING:
    from training.measuring.metrics_curves import Reliability
    from training.report import Report
    from training.reporting.report_cards import Histogram

METHODS = {
    "platt": "Platt",
    "isotonic": "isotonic",
    "venn-abers": "Venn-Abers",
    "good-only": "good parts only",
}
MOST_CHARTS = 8  # classes with a chart of their own; the figures of all are in report.json


def statement(report: Report) -> Markup:
    """The certificate in words, as the page's largest sentence."""
    certificate = certificate_of(report)
    said = certificate.in_words().replace(" %", "\u00a0%")
    held = certificate.certified
    word = "Certified" if held else "Not certified"
    read = {
        "test": "Measured on test parts that were read once, after everything was settled.",
        "calibration": "It holds for the parts that the limits were chosen on, and for new parts "
        "like them.",
    }[certificate.measured_on]
    return tag(
        "div",
        tag("p", tag("span", word, class_="word"), f"{said[0].upper()}{said[1:]}."),
        tag("span", read, class_="note"),
        class_=f"statement {'held' if held else 'open'}",
    )


def certificate_section(report: Report) -> Section:
    """The certificate, and what it rests on."""
    certificate, limits = certificate_of(report), report.limits
    where = "limits" if report.certificate is None else "certificate"
    level = f"{100 * certificate.confidence:.4g} %"
    rows: list[tuple[object, object]] = [
        (
            "Escape rate wanted",
            _at_most(certificate.wanted_escape_rate, where, "wanted_escape_rate"),
        ),
        (
            f"Shown, at {level} confidence",
            tag("strong", _at_most(certificate.escape_bound, where, "escape_bound"))
            if certificate.bad_parts
            else "nothing: no bad part was judged",
        ),
        (
            "As if every part were independent",
            _at_most(certificate.naive_escape_bound, where, "naive_escape_bound")
            if certificate.bad_parts
            else None,
        ),
        (
            "From",
            join(
                exact(certificate.bad_parts, f"{certificate.bad_parts:,}", where, "bad_parts"),
                " bad parts in ",
                exact(certificate.groups, f"{certificate.groups:,}", where, "groups"),
                " groups; ",
                exact(certificate.escapes, f"{certificate.escapes:,}", where, "escapes"),
                " of them passed",
            ),
        ),
    ]
    if certificate.good_parts:
        rows.append(
            (
                f"Overkill, at {level} confidence",
                join(
                    _at_most(certificate.overkill_bound, where, "overkill_bound"),
                    f", from {certificate.good_parts:,} good parts, ",
                    exact(certificate.overkills, f"{certificate.overkills:,}", where, "overkills"),
                    " of which failed",
                ),
            )
        )
    if not certificate.certified:
        more = certificate.more_bad_parts_needed
        rows.append(
            (
                "Missing",
                join(
                    exact(more, counted(more, "more bad part"), where, "more_bad_parts_needed"),
                    ", none of which may pass, in more groups",
                ),
            )
        )
    if certificate.scant_classes:
        rows.append(("Classes with too few bad parts", ", ".join(certificate.scant_classes)))
    if limits.design_effect > 1 and report.certificate is None:
        rows.append(
            (
                "Design effect",
                join(
                    exact(
                        limits.design_effect,
                        f"{limits.design_effect:.2f}",
                        "limits",
                        "design_effect",
                    ),
                    f": these parts are worth {limits.effective_bad_parts:.0f} independent ones",
                ),
            )
        )
    return Section(
        title="Certificate",
        anchor="certificate",
        body=join(facts(rows), _warnings(report)),
    )


def calibration_section(report: Report) -> Section | None:
    """Whether probabilities mean what they say."""
    found = report.test.reliability
    if not found:
        return None
    charts = [_reliability(name, own) for name, own in list(found.items())[:MOST_CHARTS]]
    rows = []
    for name, own in found.items():
        place = ("test", "reliability", name)
        error = own.expected_calibration_error
        rows.append(
            (
                name,
                exact(own.parts, f"{own.parts:,}", *place, "parts"),
                exact(error, fraction(error), *place, "expected_calibration_error"),
                exact(own.brier, fraction(own.brier), *place, "brier"),
                exact(own.log_loss, fraction(own.log_loss), *place, "log_loss"),
            )
        )
    about = (
        "Each point gathers the test parts whose probability lies in one tenth of the scale; the "
        "number beside it says how many. Bars are exact 95 % intervals as if the parts were "
        "independent, so with groups they are a little too short. On the diagonal, probabilities "
        "mean what they say."
    )
    return Section(
        title="Calibration",
        anchor="calibration",
        body=join(
            _methods(report),
            tag("p", about),
            tag("div", *charts, class_="charts"),
            table(("Class", "Test parts", "Calibration error", "Brier score", "Log loss"), rows),
        ),
    )


def limits_section(report: Report) -> Section:
    """The limits, the review band, and where the parts lie."""
    limits, classes = report.limits, tuple(report.test.classes)
    names = classes if len(classes) == len(limits.pass_below) else _numbered(limits.pass_below)
    rows = []
    for k, name in enumerate(names):
        fail = limits.fail_from[k]
        never = fail > 1
        rows.append(
            (
                name,
                exact(limits.pass_below[k], four(limits.pass_below[k]), "limits", "pass_below", k),
                "never" if never else exact(fail, four(fail), "limits", "fail_from", k),
            )
        )
    shares = join(
        exact(limits.review_share, percent(limits.review_share), "limits", "review_share"),
        " of the calibration parts go to review; the budget was ",
        exact(limits.review_budget, percent(limits.review_budget), "limits", "review_budget"),
    )
    novelty = exact(limits.novelty_limit, four(limits.novelty_limit), "limits", "novelty_limit")
    charts = [
        _histogram(name, own, *_limits_of(report, name))
        for name, own in list(report.histograms.items())[:MOST_CHARTS]
    ]
    about = (
        "The limits were chosen on the calibration parts. The charts show the test parts, which "
        "had no say in them: good parts should lie left of the grey band, bad ones right of it."
    )
    return Section(
        title="Operating point",
        anchor="limits",
        body=join(
            table(("Class", "Passes below", "Fails from"), rows, caption="Calibrated probability."),
            facts(
                [
                    ("Review", shares),
                    ("Novelty", join("a part above ", novelty, " goes to review")),
                ]
            ),
            tag("p", about) if charts else None,
            tag("div", *charts, class_="charts") if charts else None,
        ),
    )


def _at_most(bound: float, *place: str) -> Markup:
    return join("at most ", exact(bound, percent(bound, 1), *place))


def _warnings(report: Report) -> Markup | None:
    if not report.warnings:
        return None
    return tag("div", tag("p", tag("strong", "Beware")), items(report.warnings), class_="beware")


def _methods(report: Report) -> Markup | None:
    """Which way each class was calibrated, and what the others would have given."""
    chosen, losses = report.calibration.methods, report.calibration.log_losses
    if not chosen:
        return None
    ways = list(dict.fromkeys(way for tried in losses.values() for way in tried))
    rows = []
    for name, method in chosen.items():
        tried = losses.get(name, {})
        cells: list[object] = [name, tag("strong", METHODS.get(method, method))]
        for way in ways:
            if way not in tried:
                cells.append("not tried")
                continue
            place = ("calibration", "log_losses", name, way)
            cells.append(exact(tried[way], f"{tried[way]:.4f}", *place))
        rows.append(cells)
    headings = ("Class", "Calibrated by", *(f"Log loss, {METHODS.get(way, way)}" for way in ways))
    caption = (
        "Log loss by cross-validation over groups of the calibration parts; lower is better. A way "
        "with many parameters is taken only when it wins by more than a standard error."
        if ways
        else "Too few calibration parts to try anything but the plainest way."
    )
    return table(headings, rows, words=2, caption=caption)


def _reliability(name: str, own: Reliability) -> Markup:
    chart = Chart(
        x=Axis(label="probability given", form=percent_tick),
        y=Axis(label="share that shows the class", form=percent_tick),
    ).line([0, 1], [0, 1], "chance", "probabilities mean what they say")
    xs = [each.mean_probability for each in own.bins]
    chart.points(
        xs,
        [each.observed for each in own.bins],
        "main",
        "test parts, with 95 % interval",
        low=[each.observed_low for each in own.bins],
        high=[each.observed_high for each in own.bins],
    )
    for each in own.bins:
        chart.beside(each.mean_probability, each.observed, f"{each.parts:,}")
    return chart.drawn(f"Reliability: {name}")


def _histogram(name: str, own: Histogram, pass_below: float, fail_from: float) -> Markup:
    """Shares of good parts and of those that show the class, along the scale."""
    kinds = [(own.good, "good", "good parts", (0.08, 0.5))]
    kinds.append((own.shown, "bad", f"parts with {name}", (0.5, 0.92)))
    shares = [[n / max(1, sum(counts)) for n in counts] for counts, *_ in kinds]
    top = max(0.05, *(max(each) for each in shares))
    chart = Chart(
        x=Axis(label=f"probability of {name}", form=percent_tick),
        y=Axis(label="share of the parts of a kind", high=1.05 * top, form=percent_tick),
    )
    chart.zone(pass_below, min(1.0, fail_from), "zone", "review")
    for (counts, kind, label, side), heights in zip(kinds, shares, strict=True):
        chart.bars(own.edges, heights, kind, f"{label} ({sum(counts):,})", side=side)
    chart.upright(pass_below, "limit-pass", f"passes below {four(pass_below)}")
    if fail_from <= 1:
        chart.upright(fail_from, "limit-fail", f"fails from {four(fail_from)}")
    return chart.drawn(f"Where the test parts lie: {name}")


def _limits_of(report: Report, name: str) -> tuple[float, float]:
    classes = tuple(report.test.classes)
    k = classes.index(name) if name in classes else 0
    k = min(k, len(report.limits.pass_below) - 1)
    return report.limits.pass_below[k], report.limits.fail_from[k]


def _numbered(limits: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"class {k + 1}" for k in range(len(limits)))
