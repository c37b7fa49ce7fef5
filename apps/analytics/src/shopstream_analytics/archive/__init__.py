"""The archive: an unbroken chain of objects a partition, byte for byte what is on the log."""
