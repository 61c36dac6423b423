"""Proof that a form was filled in on our own page (protection against cross-site request forgery).

Double submission: a random token stands in a `SameSite=Strict` cookie that scripts cannot read, and in a hidden field;
a foreign page can neither read the one nor write the other. What a sibling domain could do by planting a cookie is
caught by the browser's own testimony, `Sec-Fetch-Site` (W3C Fetch Metadata). Nothing is kept on the server, so any
gateway process can check what another one gave out, also after a restart.
"""

from __future__ import annotations

import hmac
import secrets

from flask import Response, g, request

from services.analysis.errors import LesionLensError

TOKEN_COOKIE = "lesionlens_form"  # noqa: S105 - a name, not a secret
TOKEN_FIELD = "form_token"  # noqa: S105 - a name, not a secret
#: 32 bytes, 256 bits: far beyond guessing.
TOKEN_BYTES = 32
#: One day, in seconds, from the last page with a form: one left open over night still works.
TOKEN_AGE_S = 24 * 3600


class ForeignFormError(LesionLensError):
    """A form arrived without the token of our own page."""

    status = 403
    problem = "foreign-form"
    title = "This form did not come from our page"
    advice = "Open the page again and send the form once more; cookies must be allowed for this site."


def form_token() -> str:
    """The token for a form on the page being rendered; remembered in a cookie by `hand_out_token`."""
    if "form_token" not in g:
        g.form_token = request.cookies.get(TOKEN_COOKIE) or secrets.token_urlsafe(TOKEN_BYTES)
    return str(g.form_token)


def hand_out_token(response: Response) -> Response:
    """Sets the cookie when the page that is being answered holds a form: again, too, so that its day begins anew."""
    if "form_token" in g:
        response.set_cookie(
            TOKEN_COOKIE,
            g.form_token,
            max_age=TOKEN_AGE_S,
            samesite="Strict",
            secure=request.is_secure,
            httponly=True,
        )
    return response


def require_own_form() -> None:
    """Lets only our own forms through.

    Raises:
        ForeignFormError: the token is missing or differs, or the browser says that another site sent the form.
    """
    given, kept = request.form.get(TOKEN_FIELD, ""), request.cookies.get(TOKEN_COOKIE, "")
    same_token = bool(kept) and hmac.compare_digest(given.encode(), kept.encode())
    if not same_token or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise ForeignFormError
