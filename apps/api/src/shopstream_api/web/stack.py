"""Our own middleware around the framework's application instead of inside it."""

from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp


def outermost(app: FastAPI) -> None:
    """Whatever ``app``'s own middleware answers does not pass through the framework's layers.

    These would only be passed through: `RequestMiddleware` makes answers of errors and bounds the
    body.
    """
    build = app.build_middleware_stack

    def around() -> ASGIApp:
        ours, app.user_middleware = app.user_middleware, []
        stack = build()
        if isinstance(stack, ServerErrorMiddleware):
            # Its bare text would go out before our answer to a fault of ours.
            stack = stack.app
        for cls, args, kwargs in reversed(ours):
            stack = cls(stack, *args, **kwargs)
        return stack

    app.build_middleware_stack = around  # type: ignore[method-assign]  # as app.openapi is replaced
