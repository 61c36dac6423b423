"""What all pages share: their blueprint, the desk that they ask, their headers and what templates may call."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, request, url_for

from services.gateway.web.assets import asset_version
from services.gateway.web.desk import Desk
from services.gateway.web.form_token import form_token, hand_out_token
from services.gateway.web.languages import LANGUAGES, chosen_language, label_language
from services.gateway.web.wording import ALWAYS_GO, DISCLAIMER

#: Where the application keeps the function that gives the pages their desk.
DESK = "lesionlens-desk"

#: Nothing foreign, nothing inline, and not even `data:` or `blob:`: previews are drawn on a canvas.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

#: Ten pages a second for one address is more than a person reads and enough for a family behind one router.
READING = "600/minute"

pages = Blueprint("pages", __name__, template_folder="templates")


def desk() -> Desk:
    """The desk of the application that answers the present request."""
    found: Desk = current_app.extensions[DESK]()
    return found


def asset_address(name: str) -> str:
    """Where a browser finds an asset of the present version."""
    return url_for("pages.assets", version=asset_version(), name=name)


@pages.context_processor
def what_every_page_needs() -> dict[str, object]:
    """What several templates say about retention."""
    return {"retention_hours": round(desk().settings.image_retention_h)}


@pages.after_request
def finish(response: Response) -> Response:
    """Headers of every page."""
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    if request.endpoint not in {"pages.assets", "pages.favicon"}:
        # Addresses of answers are secret and forms hold tokens: nothing of it belongs into a cache.
        response.headers.setdefault("Cache-Control", "no-store")
    return hand_out_token(label_language(response)) if response.mimetype == "text/html" else response


def page_globals() -> dict[str, object]:
    """What templates may call, on error pages too."""
    return {
        "asset": asset_address,
        "language": chosen_language(),
        "languages": LANGUAGES,
        "form_token": form_token,
        "disclaimer": DISCLAIMER,
        "always_go": ALWAYS_GO,
    }
