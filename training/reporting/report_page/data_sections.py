"""What the model was made from: the set, its division, and how it was trained."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

from training.reporting.report_page.charts import Axis, Chart
from training.reporting.report_page.markup import Markup, Section, facts, items, join, table, tag
from training.reporting.report_page.words import (
    SLICES,
    counted,
    exact,
    four,
    fraction,
    percent,
    size,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.report import Report
    from training.reporting.report_cards import DataCard, PartCount
    from training.reporting.report_page.pictures import Pictures, Sample

MOST_VALUES = 12  # lines of a table by lot, mould, ...: the rest is summed up
COUNTED = ("images", "parts", "bad_parts")
SIDE_NAMES = {
    "fit": ("Fit", "the network learnt from these"),
    "calibrate": ("Calibrate", "probabilities and limits were chosen on these"),
    "test": ("Test", "read once, at the end, to measure"),
}


def data_section(report: Report, pictures: Pictures) -> Section:
    """The data card."""
    data = report.data
    counts = data.counts
    revision = "" if data.revision is None else f", revision {data.revision}"
    images = data.images
    depth = f"{images.bits} bits, {'grey' if images.channels == 1 else 'colour'}"
    low, high = images.grey_range
    captured = None if data.captured is None else " to ".join(data.captured)
    card = facts(
        [
            ("Data set", join(tag("strong", data.name), revision)),
            ("Product", join(data.product, f" ({data.modality})" if data.modality else "")),
            ("Contents", _contents(data)),
            ("Images", f"{depth}; {size(images.frame_size_px)}; grey levels {low} to {high}"),
            ("Taken", captured),
            ("Origin", data.origin.strip() or "not stated"),
            ("Licence of the images", data.licence),
            ("Digest", tag("span", data.digest, class_="digest")),
        ]
    )
    total = max(1, counts.get("images", 0))
    labels = table(
        ("Label", "Images", "Share"),
        [
            (name, exact(n, f"{n:,}", "data", "labels", name), percent(n / total))
            for name, n in data.labels.items()
        ],
        caption="Images by label; an image with two defects counts in both.",
    )
    return Section(
        title="Data",
        anchor="data",
        body=join(
            card,
            labels,
            *(_by_field(name, values, data) for name, values in data.fields.items()),
            items(_remarks(data)) if _remarks(data) else None,
            _samples(pictures.samples, bits=images.bits),
        ),
    )


def split_section(report: Report) -> Section:
    """How the set was divided, and that nothing crosses."""
    split = report.split
    total = max(1, sum(side.parts for side in split.sides.values()))
    rows = []
    for key, side in split.sides.items():
        name, what = SIDE_NAMES.get(key, (key, ""))
        place = ("split", "sides", key)
        rows.append(
            (
                join(tag("strong", name), tag("span", f" – {what}", class_="quiet")),
                exact(side.images, f"{side.images:,}", *place, "images"),
                exact(side.parts, f"{side.parts:,}", *place, "parts"),
                percent(side.parts / total),
                exact(side.bad_parts, f"{side.bad_parts:,}", *place, "bad_parts"),
                exact(side.groups, f"{side.groups:,}", *place, "groups"),
            )
        )
    sides = table(("Side", "Images", "Parts", "Share", "Bad parts", "Groups"), rows)
    by_file = split.by == "file"
    how = "taken from a file that was brought along" if by_file else f"drawn with seed {split.seed}"
    grouped = split.why or "whole groups stay on one side, and so do images with the same bytes"
    return Section(
        title="Split",
        anchor="split",
        body=join(
            sides,
            facts(
                [
                    ("How", f"{how[0].upper()}{how[1:]}"),
                    ("Kept together", f"{grouped[0].upper()}{grouped[1:]}"),
                    ("Leak check", _leak_words(report)),
                    ("Digest", tag("span", split.digest, class_="digest")),
                ]
            ),
        ),
    )


def training_section(report: Report) -> Section:
    """Every setting with its origin, and how the fit went."""
    origins = report.origins
    headings = ("Setting", "Value", "Where from") if origins else ("Setting", "Value")
    rows = []
    for name, value in report.settings.items():
        cells: list[object] = [tag("code", name), _setting(value)]
        if origins:
            cells.append(origins.get(name, ""))
        rows.append(cells)
    return Section(
        title="Training",
        anchor="training",
        body=join(
            _history(report),
            tag("h3", "Every value that the training resolved to"),
            tag("div", table(headings, rows, words=3), class_="long"),
        ),
    )


def picture(jpeg: bytes, words: str) -> Markup:
    """A JPEG inside the page."""
    return tag("img", src=f"data:image/jpeg;base64,{b64encode(jpeg).decode()}", alt=words)


def _contents(data: DataCard) -> Markup:
    counts, pieces = data.counts, []
    for key, one in (("images", "image"), ("parts", "part"), ("groups", "group")):
        if key in counts:
            pieces.append(exact(counts[key], counted(counts[key], one), "data", "counts", key))
    bad = counts.get("bad_parts", 0)
    text = exact(bad, counted(bad, "bad part"), "data", "counts", "bad_parts")
    return join(pieces[0], " of ", pieces[1], " in ", pieces[2], "; ", text)


def _by_field(name: str, values: Mapping[str, PartCount], data: DataCard) -> Markup:
    """A table by lot, mould, ...; the values with most bad parts when there are many."""
    word, words = SLICES.get(name, (name, f"{name}s"))
    ranked = sorted(values, key=lambda value: (-values[value].bad_parts, -values[value].parts))
    shown = sorted(ranked[:MOST_VALUES])
    rows: list[tuple[object, ...]] = []
    for value in shown:
        count, place = values[value], ("data", "fields", name, value)
        rows.append(
            (
                value,
                exact(count.images, f"{count.images:,}", *place, "images"),
                exact(count.parts, f"{count.parts:,}", *place, "parts"),
                exact(count.bad_parts, f"{count.bad_parts:,}", *place, "bad_parts"),
            )
        )
    rest = [values[value] for value in ranked[MOST_VALUES:]]
    if rest:
        sums = [sum(getattr(count, key) for count in rest) for key in COUNTED]
        rows.append((f"{len(rest)} others together", *(f"{n:,}" for n in sums)))
    unnamed = data.counts.get("images", 0) - sum(count.images for count in values.values())
    caption = f"By {word}: {counted(len(values), word, words)}"
    if rest:
        caption += ", those with most bad parts shown"
    if unnamed > 0 and name != "annotator":
        caption += f"; {counted(unnamed, 'image')} without one"
    return table((word.capitalize(), "Images", "Parts", "Bad parts"), rows, caption=caption)


def _remarks(data: DataCard) -> list[Markup]:
    remarks = []
    for value, key, what in (
        (data.marked_images, "marked_images", "has its defects marked by polygons or masks"),
        (data.voted_images, "voted_images", "was labelled by several annotators"),
        (data.doubtful_images, "doubtful_images", "has a label its annotators were not sure of"),
    ):
        if value:
            verbs = what if value == 1 else what.replace("has its", "have their")
            verbs = verbs if value == 1 else verbs.replace("has a label its", "have labels their")
            verbs = verbs if value == 1 else verbs.replace("was labelled", "were labelled")
            remarks.append(join(exact(value, counted(value, "image"), "data", key), " ", verbs))
    return remarks


def _samples(samples: tuple[Sample, ...], *, bits: int) -> Markup | None:
    if not samples:
        return None
    windowed = (
        "Brightness is stretched between the 0.5 and 99.5 percentiles of each image, for the eye "
        "only; the model sees all levels."
    )
    deep = f" {bits}-bit images are shown with 8." if bits > 8 else ""
    figures = (
        tag(
            "figure",
            picture(sample.jpeg, f"part {sample.part}, {sample.label}"),
            tag("figcaption", tag("strong", sample.label), tag("br"), sample.part),
        )
        for sample in samples
    )
    return join(
        tag("h3", "Samples to fit on"),
        tag("p", f"{windowed}{deep}", class_="note"),
        tag("div", *figures, class_="samples"),
    )


def _leak_words(report: Report) -> Markup | str:
    split = report.split
    if split.leaks is None:
        return "By group, part and bytes, by the release that made the model"
    if split.leaks:
        return tag("strong", f"{counted(split.leaks, 'pair')} cross the split: figures flatter")
    said = "Nothing crosses: no part, no declared group, no image twice"
    if split.duplicates is None:
        return f"{said}. Near-duplicate images were not looked for"
    exact_pairs, near = split.duplicates.get("exact", 0), split.duplicates.get("near", 0)
    return (
        f"{said}, no near-duplicate. Found and kept on one side each: "
        f"{counted(exact_pairs, 'pair')} of equal images, {counted(near, 'near-duplicate pair')}"
    )


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_setting(each) for each in value) or "none"
    return "none" if value is None else str(value)


def _history(report: Report) -> Markup | None:
    """Loss by epoch, and the grouped validation figure where the fit had one."""
    stages: dict[str, list[Mapping[str, float | int | str]]] = {}
    for entry in report.history:
        stages.setdefault(str(entry.get("stage", "")), []).append(entry)
    charts = []
    for stage, entries in stages.items():
        for key, label in (("loss", "loss"), ("validation_auc", "grouped validation AUC")):
            seen = [
                (float(entry["epoch"]), float(value))
                for entry in entries
                if isinstance(value := entry.get(key), (int, float)) and "epoch" in entry
            ]
            if len(seen) > 1:
                charts.append(_trace(stage, label, seen))
    return tag("div", *charts, class_="charts") if charts else None


def _trace(stage: str, label: str, seen: list[tuple[float, float]]) -> Markup:
    xs, ys = [x for x, _ in seen], [y for _, y in seen]
    spread = (max(ys) - min(ys)) * 0.05
    low = min(0.0, *ys) if label == "loss" else max(0.0, min(ys) - spread)
    high = max(ys) + spread if label == "loss" else min(1.0, max(ys) + spread)
    chart = Chart(
        x=Axis(label="epoch", low=min(xs), high=max(xs)), y=Axis(label=label, low=low, high=high)
    ).line(xs, ys, "main")
    if label == "loss":
        return chart.drawn(f"Loss, {stage}" if stage else "Loss", f"{four(ys[-1])} at the end")
    best = max(range(len(ys)), key=ys.__getitem__)
    note = f"best {fraction(ys[best])} at epoch {xs[best]:g}, of {xs[-1]:g}"
    return chart.upright(xs[best], "limit-pass", "best epoch").drawn(
        f"Grouped validation, {stage}" if stage else "Grouped validation", note
    )
