"""The report of a model, as data and as a page."""
