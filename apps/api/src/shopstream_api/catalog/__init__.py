"""Products: what sellers offer."""
