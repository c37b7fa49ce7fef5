"""`shopstream topics`: topics made again, topics with more partitions (protocol rules 13, 14)."""
