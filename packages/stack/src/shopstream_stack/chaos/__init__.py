"""Faults from a seeded schedule against a system under load, with `verify` as the verdict."""
