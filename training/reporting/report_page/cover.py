"""The first page: what the model is, what it was shown to hold, what it is for, who signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.report import certificate_of
from training.reporting.report_page.limit_sections import statement
from training.reporting.report_page.markup import Markup, facts, items, join, table, tag
from training.reporting.report_page.measured_sections import figures_table
from training.reporting.report_page.stamp import DIGEST_UNKNOWN
from training.reporting.report_page.words import counted, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.report import Report

COVER_FIGURES = ("escape_rate", "overkill_rate", "review_rate", "auc")
FEW_BAD = 10  # bad test parts of a class below which its escape rate says next to nothing
FEW_GROUPS = 20


def cover(report: Report) -> Markup:
    """All of the first page."""
    identity, data = report.identity, report.data
    reference = data.name if identity is None else identity.reference
    modality = f", {data.modality}" if data.modality else ""
    return tag(
        "section",
        tag("p", "Model report", class_="eyebrow"),
        tag("h1", reference),
        tag("p", f"Product {data.product}{modality}", class_="quiet"),
        statement(report),
        figures_table(report.test, COVER_FIGURES),
        tag(
            "div",
            tag("div", tag("h3", "May be used"), items(may(report))),
            tag("div", tag("h3", "May not be used"), items(may_not(report))),
            class_="pair",
        ),
        facts(_identity(report)),
        _signatures(),
        class_="cover",
    )


def may(report: Report) -> list[str]:
    """What the model is for."""
    data, images = report.data, report.data.images
    kind = f"{images.bits}-bit {'grey' if images.channels == 1 else 'colour'} images"
    uses = [
        (
            f"To judge {kind} of {data.product}, {size(images.frame_size_px)}, taken as those of "
            f"the data set {data.name} were."
        ),
        f"To find: {', '.join(data.classes)}."
        if data.classes and _preset(report) != "anomaly"
        else "To find what is unlike the good parts that it was shown.",
        f"With the limits in this report, on {report.engine}.",
    ]
    if not certificate_of(report).certified:
        uses.append(
            "Beside the inspection that is there now, until the certificate holds, or until "
            "somebody accepts the risk in words, which the log of promotions keeps."
        )
    return uses


def may_not(report: Report) -> list[str]:
    """What nobody has shown that it can do."""
    data = report.data
    uses = [
        "For another product, station, detector setting or view than the data show.",
        "To vouch for kinds of defect that are not listed here: it was never shown one.",
        (
            "With other weights, limits or arithmetic: that is another model, and needs to be "
            "qualified again (ASTM E3327)."
        ),
    ]
    if _forbids_trade(data.licence):
        uses.append(f"In products: the licence of the images, {data.licence}, forbids trade.")
    return uses


def unknowns(report: Report) -> list[str]:
    """What this report does not say, plainly."""
    data, test, split = report.data, report.test, report.split
    said = []
    if not test.bad_parts:
        said.append(
            "No bad part was among the test parts: how many bad parts would pass is unknown. What "
            "is known is how many good parts would not pass."
        )
    if _preset(report) == "anomaly":
        said.append(
            "The model was made from good parts alone. It was taught no kind of defect, and cannot "
            "tell one from another."
        )
    for name, counts in test.classes.items():
        if test.bad_parts and counts["bad_parts"] < FEW_BAD:
            said.append(
                f"{name}: {counted(counts['bad_parts'], 'bad part')} among the test parts, too few "
                "to say a rate of."
            )
    if test.groups < FEW_GROUPS:
        said.append(
            f"The test parts come from {counted(test.groups, 'group')}. How much groups differ is "
            "itself hardly known; intervals are wide for that reason."
        )
    if split.grouped_by == ("part",):
        said.append(
            "The source names no lot, mould, group or date, so parts of one batch may stand on "
            "both sides of the split. Then the figures flatter, by an amount that nobody knows."
        )
    if split.grouped_by and split.duplicates is None:
        said.append("Near-duplicate images were not looked for.")
    missing = [name for name in ("lot", "mould", "station", "view") if name not in data.fields]
    if missing and test.figures:
        said.append(
            f"The data name no {_listed(missing, 'or')}: whether the model is worse on one of them "
            "than on another was not measured."
        )
    if data.captured is None:
        said.append("The images carry no dates: nothing here tells how the model ages.")
    if data.doubtful_images:
        said.append(
            f"{counted(data.doubtful_images, 'image')} of {data.counts.get('images', 0):,} carry a "
            "label that its annotators were not sure of. The figures take the label as the truth."
        )
    if not test.heatmap and test.bad_parts:
        said.append(
            "Test images have no marked defects, so whether the evidence points at the defect was "
            "not measured; see the examples."
        )
    if report.agreement is None:
        said.append("Whether other engines give the same verdicts was not measured.")
    said.append(
        "How steady the verdict is when one part is imaged again was not measured; a gauge study "
        "on the line tells."
    )
    return said


def _identity(report: Report) -> list[tuple[object, object]]:
    identity, data = report.identity, report.data
    revision = "" if data.revision is None else f", revision {data.revision}"
    made_from: tuple[object, object] = (
        "Made from",
        join(f"{data.name}{revision}, ", tag("span", data.digest, class_="digest")),
    )
    if identity is None:
        return [made_from, ("Release", report.environment.get("inspection"))]
    weights = identity.files.get("model.safetensors")
    when = identity.created_at.replace("T", " ").removesuffix("Z")
    return [
        ("Package digest", DIGEST_UNKNOWN),
        ("Weights digest", None if weights is None else tag("span", weights, class_="digest")),
        made_from,
        ("Made", f"{when} UTC by {identity.made_by}"),
        ("Made with", f"inspection {identity.code_version}, preset {identity.preset}"),
    ]


def _preset(report: Report) -> object:
    return report.settings.get("preset") if report.identity is None else report.identity.preset


def _signatures() -> Markup:
    headings = ("", "Name", "Function", "Date", "Signature")
    rows = [(what, "", "", "", "") for what in ("Prepared", "Checked", "Approved")]
    return table(headings, rows, words=5, class_="signatures")


def _forbids_trade(licence: str) -> bool:
    words = licence.lower().replace("-", " ").replace("_", " ").split()
    return "nc" in words or "noncommercial" in words


def _listed(names: Sequence[str], last: str) -> str:
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end
