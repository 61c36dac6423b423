"""LesionLens from the command line and from Python, and the supervisor that runs the whole service on one machine.

`lesionlens.Client` talks to a running service. It is loaded when it is first asked for, so that importing this package
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lesionlens.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from lesionlens.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
