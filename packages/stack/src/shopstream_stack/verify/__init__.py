"""The check: invariants 1 to 8 of a running system, proven or refuted (docs/verify.md)."""

from shopstream_stack.verify.report import Report, Violation
from shopstream_stack.verify.run import verify

__all__ = ["Report", "Violation", "verify"]
