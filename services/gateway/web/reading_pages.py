"""Pages to read, and the files that browsers ask for beside them."""

from __future__ import annotations

from flask import Response, abort, jsonify, redirect, render_template, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from services.gateway.policy import route_policy
from services.gateway.web.assets import IMMUTABLE_AGE_S, all_assets, asset_version
from services.gateway.web.blueprint import READING, asset_address, desk, pages
from services.gateway.web.evidence_words import told_evidence
from services.gateway.web.languages import chosen_language
from services.gateway.web.script_texts import history_texts


@pages.get("/history")
@route_policy(auth="public", limit=READING)
def history() -> str:
    """The list of spots, filled in by the browser from what it keeps."""
    return render_template("web/history.html", texts=history_texts())


@pages.get("/about")
@route_policy(auth="public", limit=READING)
def about() -> str:
    """Who built this, how well it works and for whom it works worse."""
    return render_template("web/about.html", **told_evidence(desk().settings.models_dir))


@pages.get("/privacy")
@route_policy(auth="public", limit=READING)
def privacy() -> str:
    """What happens to a photograph, in plain words."""
    return render_template("web/privacy.html", retention_days=round(desk().settings.result_retention_d))


@pages.get("/manifest.webmanifest")
@route_policy(auth="public", limit=READING)
def manifest() -> Response:
    """What a phone needs to keep the page among its apps."""
    response = jsonify(
        {
            "name": "LesionLens",
            "short_name": "LesionLens",
            "description": _("Check a spot on your skin"),
            "lang": chosen_language(),
            "start_url": url_for("pages.start"),
            "scope": "/",
            "display": "standalone",
            "background_color": "#f6f4ef",
            "theme_color": "#f6f4ef",
            "icons": [
                {"src": asset_address("icon.svg"), "sizes": "any", "type": "image/svg+xml"},
                {"src": asset_address("icon-192.png"), "sizes": "192x192", "type": "image/png"},
                {
                    "src": asset_address("icon-512.png"),
                    "sizes": "512x512",
                    "type": "image/png",
                    "purpose": "any maskable",
                },
            ],
        }
    )
    response.mimetype = "application/manifest+json"
    return response


@pages.get("/assets/<version>/<name>")
@route_policy(auth="public", limit=READING)
def assets(version: str, name: str) -> Response:
    """Style, scripts and icons; what carries the present version may be kept for good."""
    asset = all_assets().get(name)
    if asset is None:
        abort(404)
    response = Response(asset.content, mimetype=asset.media_type)
    response.cache_control.public = True
    if version == asset_version():
        response.cache_control.max_age = IMMUTABLE_AGE_S
        response.cache_control.immutable = True
    else:
        response.cache_control.no_cache = True
    return response


@pages.get("/favicon.ico")
@route_policy(auth="public", limit=READING)
def favicon() -> BaseResponse:
    """For browsers that ask without having read the page."""
    return redirect(asset_address("icon-180.png"), 302)
