"""Routes as they are declared, and their registration in one flat list.

FastAPI's own nested routers are kept as a tree: each level builds its routes anew with the prefixes and dependencies of
the levels above (120 routes became 450 objects, a third of a second of every start), and each request is matched again
at every level it passes. Here a route is a value until ``Routes.mount`` makes the one object that serves it. What only
the OpenAPI document needs, the models of answers, is left out of that object: pydantic would compile each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.params import Depends
from fastapi.routing import APIRoute

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_DESCRIBING = ("response_model", "responses")
"""Options that say what an answer looks like. Every route here makes its ``Response`` itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One route in full: ``path`` with all prefixes, ``dependencies`` of all levels, the outermost first. ``options``
    are those of FastAPI's ``APIRoute``."""

    path: str
    methods: tuple[str, ...]
    endpoint: Callable[..., Any]
    tags: tuple[str, ...]
    dependencies: tuple[Depends, ...]
    include_in_schema: bool
    options: dict[str, Any] = field(default_factory=dict)

    def serving(self) -> APIRoute:
        """The object that answers requests."""
        kept = {name: value for name, value in self.options.items() if name not in _DESCRIBING}
        return self._made(response_model=None, **kept)

    def described(self) -> APIRoute:
        """The object that the OpenAPI document is made from."""
        return self._made(**self.options)

    def _made(self, **options: Any) -> APIRoute:
        return APIRoute(
            self.path,
            self.endpoint,
            methods=list(self.methods),
            tags=list(self.tags),
            dependencies=list(self.dependencies),
            include_in_schema=self.include_in_schema,
            **options,
        )


class Routes:
    """Declares routes as FastAPI's ``APIRouter`` does. What is declared after ``include_router`` counts too, until
    ``mount``."""

    def __init__(
        self,
        *,
        prefix: str = "",
        tags: Sequence[str] = (),
        dependencies: Sequence[Depends] = (),
        include_in_schema: bool = True,
    ) -> None:
        self._prefix = prefix
        self._tags = tuple(tags)
        self._dependencies = tuple(dependencies)
        self._include_in_schema = include_in_schema
        self._parts: list[Declaration | tuple[str, Routes]] = []

    def get(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["GET"], **options)

    def head(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["HEAD"], **options)

    def post(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["POST"], **options)

    def put(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["PUT"], **options)

    def patch(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["PATCH"], **options)

    def delete(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["DELETE"], **options)

    def api_route(self, path: str, *, methods: Sequence[str], **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Declare the decorated function as the route's endpoint. ``options``: see ``Declaration``."""

        def declare(endpoint: Endpoint) -> Endpoint:
            self.add_api_route(path, endpoint, methods=methods, **options)
            return endpoint

        return declare

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: Sequence[str],
        include_in_schema: bool = True,
        **options: Any,
    ) -> None:
        """Declare one route."""
        self._parts.append(
            Declaration(
                path=path,
                methods=tuple(methods),
                endpoint=endpoint,
                tags=(),
                dependencies=(),
                include_in_schema=include_in_schema,
                options=options,
            )
        )

    def include_router(self, routes: Routes, *, prefix: str = "") -> None:
        """Take all of ``routes``, below ``prefix``."""
        self._parts.append((prefix, routes))

    def declared(self) -> Iterator[Declaration]:
        """Every route, in the order in which requests are compared with them."""
        for part in self._parts:
            if isinstance(part, Declaration):
                yield self._within("", part)
            else:
                prefix, routes = part
                for inner in routes.declared():
                    yield self._within(prefix, inner)

    def mount(self, app: FastAPI) -> None:
        """Register every route with ``app``."""
        app.router.routes.extend(declaration.serving() for declaration in self.declared())

    def _within(self, prefix: str, inner: Declaration) -> Declaration:
        return Declaration(
            path=self._prefix + prefix + inner.path,
            methods=inner.methods,
            endpoint=inner.endpoint,
            tags=self._tags + inner.tags,
            dependencies=self._dependencies + inner.dependencies,
            include_in_schema=self._include_in_schema and inner.include_in_schema,
            options=inner.options,
        )
