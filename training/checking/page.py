"""What a check found as one HTML file: pictures, worst first; no script, no request elsewhere."""

from __future__ import annotations

import base64
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import cv2
import numpy as np

from inspection.errors import ImageError
from inspection.frame import decode_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training.checking.findings import Case, Check, Finding
    from training.manifest import Manifest

THUMBNAIL_PX = 176  # longer side
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
SHOWN = 24  # cases of a finding that come with pictures
WINDOW = (0.5, 99.5)  # percentiles of the grey levels that 16-bit pictures span
SAID = {"error": "Error", "warning": "Warning", "note": "Note"}


def page_text(check: Check, review_name: str, command: str) -> str:
    """The page.

    Args:
        check: what was found.
        review_name: the file beside it that takes the decisions.
        command: that applies them.
    """
    manifest = check.manifest
    picture = _pictures(manifest)
    parts = [_finding(check, i, finding, picture) for i, finding in enumerate(check.findings)]
    title = escape(f"Check of {manifest.reference}")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{title}</title><style>{_style()}</style></head><body><main>",
            f"<h1>{title}</h1>",
            f'<p class="verdict {_worst(check)}">{escape(verdict(check))}</p>',
            _facts(check),
            _overview(check),
            *parts,
            _next(review_name, command) if check.findings else "",
            _footnote(manifest),
            "</main></body></html>",
            "",
        ]
    )


def verdict(check: Check) -> str:
    """The whole in a line, such as "1 error, 2 warnings"."""
    counts = [
        (sum(finding.severity == severity for finding in check.findings), severity)
        for severity in ("error", "warning", "note")
    ]
    said = [f"{n} {name if n == 1 else name + 's'}" for n, name in counts if n]
    return ", ".join(said) or "Nothing was found."


def _worst(check: Check) -> str:
    return check.findings[0].severity if check.findings else "fine"


def _facts(check: Check) -> str:
    lines = [f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in check.facts]
    return f'<dl class="facts">{"".join(lines)}</dl>'


def _overview(check: Check) -> str:
    if not check.findings:
        return ""
    lines = [
        f'<tr><td><span class="badge {finding.severity}">{SAID[finding.severity]}</span></td>'
        f'<td><a href="#finding-{i}">{escape(finding.text)}</a></td></tr>'
        for i, finding in enumerate(check.findings)
    ]
    return f'<table class="overview"><tbody>{"".join(lines)}</tbody></table>'


def _finding(check: Check, number: int, finding: Finding, picture: Callable[[int], str]) -> str:
    cards = [_card(check, case, picture) for case in finding.cases[:SHOWN]]
    left = len(finding.cases) - SHOWN
    more = f'<p class="more">{left} more are in review.csv.</p>' if left > 0 else ""
    return (
        f'<section id="finding-{number}"><h2><span class="badge {finding.severity}">'
        f"{SAID[finding.severity]}</span> <code>{escape(finding.code)}</code></h2>"
        f'<p>{escape(finding.text)}</p><p class="remedy">{escape(finding.remedy)}</p>'
        f'<div class="cards">{"".join(cards)}</div>{more}</section>'
    )


def _card(check: Check, case: Case, picture: Callable[[int], str]) -> str:
    figures = []
    for row in case.rows:
        what = check.manifest.rows[row]
        figures.append(
            f'<figure>{picture(row)}<figcaption><span class="path">{escape(what.path)}</span>'
            f'<span class="label">{escape(what.label)}</span></figcaption></figure>'
        )
    suggested = (
        f'<span class="suggested">{escape(case.suggested)}?</span> ' if case.suggested else ""
    )
    kind = "card pair" if len(case.rows) > 1 else "card"
    return (
        f'<div class="{kind}"><div class="images">{"".join(figures)}</div>'
        f"<p>{suggested}{escape(case.said)}</p></div>"
    )


def _next(review_name: str, command: str) -> str:
    return (
        "<section><h2>What to do now</h2><ol>"
        f"<li>Open <code>{escape(review_name)}</code>, which lies beside this page, in a "
        "spreadsheet. It has a line for every image above.</li>"
        "<li>Where a label is wrong, write the right one into <code>new_label</code>; write "
        "<code>exclude</code> to take an image out. Leave the others empty.</li>"
        f"<li>Run <code>{escape(command)}</code>. It makes a new revision; this one stays as it "
        "is.</li></ol></section>"
    )


def _footnote(manifest: Manifest) -> str:
    window = (
        f"Pictures of 16-bit images span the {WINDOW[0]:g} to {WINDOW[1]:g} percentile of their "
        "own grey levels, each its own; what is measured uses every bit. "
        if manifest.images.bits == 16
        else ""
    )
    return (
        f"<footer>{window}Pictures are reduced to {THUMBNAIL_PX} pixels. "
        f"Licence of the images: {escape(manifest.licence)}.</footer>"
    )


def _pictures(manifest: Manifest) -> Callable[[int], str]:
    """A function that gives the img element of a row; the same picture is made once."""

    @cache
    def picture(row: int) -> str:
        path = manifest.file(manifest.rows[row])
        try:
            small = _reduced(decode_image(path.read_bytes()).pixels)
        except (ImageError, OSError):
            return '<div class="none">no picture</div>'
        coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        data = base64.b64encode(coded).decode("ascii")
        height, width = small.shape[:2]
        return f'<img alt="" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}">'

    return picture


def _reduced(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """A small 8-bit picture in OpenCV's order of colours."""
    height, width = pixels.shape[:2]
    scale = THUMBNAIL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(pixels.astype(np.float32), size, interpolation=method)
    if pixels.dtype == np.uint16:
        low, high = np.percentile(pixels, WINDOW)
        small = (small - low) * (255 / max(high - low, 1))
    grey = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(grey[..., ::-1]) if grey.ndim == 3 else grey


def _style() -> str:
    return files("training.checking").joinpath("page.css").read_text(encoding="utf-8")
