"""Aggregates made again from the archive: folded, written, compared, swapped (docs/adr/0031)."""
