"""Measurements, side by side in one run; nothing here is in the wheel. See docs/benchmarks.md."""
