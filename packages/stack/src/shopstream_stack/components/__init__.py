"""The components of the local stack, one module each: how it starts and when it works."""
