"""The relay: outbox rows to the log, exactly once, by one Kafka transaction a batch."""
