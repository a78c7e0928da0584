"""Engines: the places that import a framework. `inspection.engine` is what the rest knows."""
