"""What every route has to state about itself: who may call it, and how often.

A test reads the source of every route and fails when one is silent, so that no route is open by oversight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

View = TypeVar("View", bound=Callable[..., object])

#: `public`: anybody. `capability`: whoever knows the unguessable id in the address. `operator`: anybody as far as the
#: gateway is concerned; an operator keeps the address inside (no personal data in it). `key`: only with an API key.
#: A key that is shown where none is needed must be good all the same (`access.py`), and what was sent in with a key is
#: there for that key alone (`record/base.py`).
Auth = Literal["public", "capability", "operator", "key"]

#: Names that stand for a limit set by a setting, in place of a literal one. Uploads are counted together over all
#: routes that take photographs.
UPLOADS = "uploads"
POLLS = "polls"
#: For routes that cost nothing and must answer when everything else is exhausted (probes, metrics).
UNLIMITED = "unlimited"


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """Who may call a route, and how often per API key, or else per address.

    `limit` is `60/minute`, say, or the name of a limit that a setting gives.
    """

    auth: Auth
    limit: str


def route_policy(*, auth: Auth, limit: str) -> Callable[[View], View]:
    """States a route's policy. Put it next to the function, below the route decorator."""

    def state(view: View) -> View:
        view.__dict__["policy"] = RoutePolicy(auth, limit)
        return view

    return state


def policy_of(view: object) -> RoutePolicy | None:
    """The policy a view stated, if it did."""
    policy = getattr(view, "policy", None)
    return policy if isinstance(policy, RoutePolicy) else None
