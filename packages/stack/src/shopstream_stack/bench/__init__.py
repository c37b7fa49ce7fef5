"""The benchmarks: what is measured, against what floor, and what must hold meanwhile."""
