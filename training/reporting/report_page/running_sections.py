"""Examples, engines, timing, environment and licences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.reporting.report_page.data_sections import picture
from training.reporting.report_page.markup import Markup, Section, facts, join, table, tag
from training.reporting.report_page.words import counted, exact, percent

if TYPE_CHECKING:
    from training.report import Report
    from training.reporting.report_page.pictures import Example, Kind, Pictures

KIND_WORDS: dict[Kind, tuple[str, str, str]] = {
    "escape": (
        "Escapes",
        "Bad parts that passed, the surest first.",
        "No bad part passed.",
    ),
    "overkill": (
        "Overkill",
        "Good parts that failed, the surest first.",
        "No good part failed.",
    ),
    "near escape": (
        "Nearest to escaping",
        "Bad parts that a person was asked about, the least suspicious first.",
        "",
    ),
    "found": ("Found", "Bad parts that failed, from all along the scale.", ""),
    "passed": ("Passed", "Good parts that passed, from all along the scale.", ""),
}


def examples_section(report: Report, pictures: Pictures) -> Section | None:
    """The worst wrong verdicts and some right ones, with the evidence on them."""
    if not pictures.examples:
        return None
    of_kind: dict[str, list[Example]] = {}
    for example in pictures.examples:
        of_kind.setdefault(example.kind, []).append(example)
    pieces = []
    for kind, (title, what, none) in KIND_WORDS.items():
        shown = of_kind.get(kind, [])
        if not shown:
            pieces.append(join(tag("h3", title), tag("p", none)) if none else None)
            continue
        more = pictures.left_out.get(kind, 0)
        rest = f" {counted(more, 'more')[: -1 if more != 1 else None]}." if more else ""
        figures = (_example(example) for example in shown)
        pieces.append(
            join(
                tag("h3", title),
                tag("p", f"{what} {len(shown)} shown.{rest}" if rest else what, class_="note"),
                tag("div", *figures, class_="examples"),
            )
        )
    windowed = (
        "Left the image, right the same with the evidence: the brighter the colour, the more the "
        "model sees a defect there; boxes are what it reports. Brightness is stretched between the "
        "0.5 and 99.5 percentiles of each image, for the eye only"
    )
    deep = f"; {report.data.images.bits}-bit images are shown with 8." if _deep(report) else "."
    return Section(
        title="Examples", anchor="examples", body=join(tag("p", windowed + deep), *pieces)
    )


def engines_section(report: Report) -> Section:
    """Whether the verdicts depend on what runs the network."""
    agreement, study = report.agreement, report.precision
    pieces: list[Markup | None] = []
    if agreement is not None:
        said = agreement.in_words()
        pieces.append(tag("p", f"{said[0].upper()}{said[1:]}."))
        rows = []
        for i, pair in enumerate(agreement.pairs):
            change = pair.changes
            place = ("agreement", "pairs", i, "changes")
            flips = ", ".join(f"{n} {kind}" for kind, n in change.flips.items()) or "none"
            rows.append(
                (
                    f"{pair.first} and {pair.second}",
                    exact(change.parts, f"{change.parts:,}", *place, "parts"),
                    flips,
                    exact(change.bad_to_pass, f"{change.bad_to_pass:,}", *place, "bad_to_pass"),
                    exact(
                        change.largest_difference,
                        f"{change.largest_difference:.2g}",
                        *place,
                        "largest_difference",
                    ),
                )
            )
        headings = (
            "Engines",
            "Parts",
            "Verdicts that differ",
            "Bad parts that only one passes",
            "Largest difference of a probability",
        )
        pieces.append(table(headings, rows, caption="The same parts, calibration and limits."))
    pieces.append(tag("h3", "Arithmetic"))
    times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in study.ms_per_image.items())
    flips = ", ".join(f"{n} {kind}" for kind, n in study.flips.items()) or "none"
    of = "all of them" if study.whole else "a sample: every bad one, and good ones near a limit"
    pieces.append(
        facts(
            [
                ("Serves in", f"{study.chosen}: {study.reason}"),
                (
                    "Compared on",
                    join(
                        exact(study.parts, counted(study.parts, "test part"), "precision", "parts"),
                        f", {of}",
                    )
                    if study.parts
                    else None,
                ),
                ("Verdicts that differ", flips if study.parts else None),
                (
                    "Bad parts that only one passes",
                    exact(study.bad_to_pass, f"{study.bad_to_pass:,}", "precision", "bad_to_pass")
                    if study.parts
                    else None,
                ),
                (
                    "Largest difference of a probability",
                    exact(
                        study.largest_difference,
                        f"{study.largest_difference:.4f}",
                        "precision",
                        "largest_difference",
                    )
                    if study.parts
                    else None,
                ),
                ("Time an image, alone", times or None),
            ]
        )
    )
    return Section(title="Engines and arithmetic", anchor="engines", body=join(*pieces))


def making_section(report: Report) -> Section:
    """How long it took, on what, and with which files."""
    times = report.timings_s
    total = times.get("all", sum(times.values()))
    rows = [
        (
            "altogether" if step == "all" else step,
            exact(seconds, f"{seconds:,.1f}", "timings_s", step),
            percent(seconds / total) if total else "",
        )
        for step, seconds in times.items()
    ]
    files = report.identity.files if report.identity is not None else {}
    kept = table(
        ("File of the package", "SHA-256"),
        [(name, tag("span", digest, class_="digest")) for name, digest in files.items()],
        words=2,
    )
    return Section(
        title="Timing and environment",
        anchor="making",
        body=join(
            tag(
                "div",
                table(("Step", "Seconds", "Share"), rows, caption="Making this model."),
                facts(report.environment.items()),
                class_="pair",
            ),
            kept if files else None,
        ),
    )


def licences_section(report: Report) -> Section:
    """Under what the weights and the images may be used."""
    rows = list(report.licences.items())
    about = (
        "A model carries the terms of what it was made from. Whoever puts it into a product checks "
        "that these terms allow it."
    )
    return Section(
        title="Licences",
        anchor="licences",
        body=join(table(("Of", "Licence"), rows, words=2), tag("p", about, class_="note")),
    )


def _example(example: Example) -> Markup:
    said = ", ".join(f"{name} {percent(value)}" for name, value in example.probabilities.items())
    words = f"{example.label}, judged {example.disposition}"
    return tag(
        "figure",
        tag(
            "div",
            picture(example.plain, f"part {example.part}, {words}"),
            picture(example.evidence, f"the same with the evidence, part {example.part}"),
            class_="two",
        ),
        tag(
            "figcaption",
            tag("strong", example.part),
            f" ({example.label}) → ",
            tag("strong", example.disposition),
            tag("br"),
            f"{said}; novelty {example.novelty:.3g}; group {example.group}",
        ),
    )


def _deep(report: Report) -> bool:
    return report.data.images.bits > 8
