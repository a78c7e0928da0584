"""Statistics, calibration, limits, and what is measured with them."""
