"""`shopstream archive`: look at the archive, read it, prove it, add forms quick to query."""
