"""The producer: REST, PostgreSQL, outbox and relay."""
