"""Measurements, each beside a reference in the same run. See README.md."""
