"""Kafka to browsers over server-sent events."""
