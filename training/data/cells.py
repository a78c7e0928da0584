"""What a cell of an evidence map is taught. Light: a machine that only fits has no decoders."""

COVERED = 0.4
"""Share of a cell from which it shows the defect; with less, and some, nobody can say."""
