"""The package's digest on a copy of its report, which a file of the package itself cannot hold."""

from __future__ import annotations

from training.reporting.report_page.markup import Markup, tag

# What stands in the page that travels in the package; a copy holds the digest in its place.
DIGEST_UNKNOWN = Markup(
    "<span data-package-digest>stands in package.sha256, and in the copy that "
    "<code>inspection report MODEL@VERSION --out FILE</code> writes</span>"
)


def stamped(page: bytes, digest: str) -> bytes:
    """The same page with the package's digest."""
    known = tag("span", digest, class_="digest")
    return page.replace(DIGEST_UNKNOWN.encode(), known.encode())
