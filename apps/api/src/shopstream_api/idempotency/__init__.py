"""Idempotency keys: the same request with the same key has one effect and one answer."""
