"""Faust workers: aggregates, recent events, archive; and the read API."""
