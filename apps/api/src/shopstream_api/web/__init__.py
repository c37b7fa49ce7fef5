"""The HTTP edge: bodies, problems, middleware, pages."""
