"""Measurements of the package; `python -m benchmarks` measures the table of `rows`."""
