"""Many products in one request: a result a row, or all or nothing."""
