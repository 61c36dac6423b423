"""flask-smorest's blueprint with the types that it does not state itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import marshmallow
from flask_smorest import Blueprint

View = TypeVar("View", bound=Callable[..., object])
Shape = type[marshmallow.Schema] | Mapping[str, Any] | None


class ApiBlueprint(Blueprint):  # type: ignore[misc]
    """Routes that describe themselves in the OpenAPI document."""

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Registers a route, with an operation id that client generators can make a function of."""
        register = super().route(rule, **options)

        def decorate(view: View) -> View:
            register(self.doc(operationId=f"{self.name}_{view.__name__}")(view))
            return view

        return decorate

    def response(self, status_code: int, schema: Shape = None, **options: Any) -> Callable[[View], View]:
        """Describes the usual answer; see flask-smorest."""
        decorator: Callable[[View], View] = super().response(status_code, schema, **options)
        return decorator

    def alt_response(self, status_code: int, **options: Any) -> Callable[[View], View]:
        """Describes another answer; see flask-smorest."""
        decorator: Callable[[View], View] = super().alt_response(status_code, **options)
        return decorator

    @staticmethod
    def doc(**options: Any) -> Callable[[View], View]:
        """Describes what cannot be inferred; see flask-smorest."""
        decorator: Callable[[View], View] = Blueprint.doc(**options)
        return decorator
