"""The cost of the package, as ratios measured in one run: ``python -m tests.benchmarks``."""
