"""report.html: what was measured on a package, as one page that a person reads, prints and signs.

    Report + Pictures -> sections (markup, charts) -> page.render_report -> bytes

The page needs nothing but itself: no script, no font and no image from elsewhere. All text goes
through `markup.tag`, which escapes it. Every figure comes from the Report, which is report.json.
"""
