"""Which language a page is in: the menu's choice, else the browser's wish, else English."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, request
from flask_babel import Babel

#: Language codes with the name each language has for itself.
LANGUAGES = {"en": "English", "de": "Deutsch", "es": "Español", "fr": "Français"}
DEFAULT_LANGUAGE = "en"

#: The only thing the pages ever keep in a cookie besides the form token: the language chosen in the menu.
LANGUAGE_COOKIE = "lesionlens_language"
#: One year, in seconds: a choice is remembered, not re-asked.
LANGUAGE_COOKIE_AGE_S = 365 * 24 * 3600

TRANSLATIONS = Path(__file__).parent / "translations"


def chosen_language() -> str:
    """The language of the present request, one of `LANGUAGES`."""
    for wish in (request.args.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wish in LANGUAGES:
            return str(wish)
    return request.accept_languages.best_match(list(LANGUAGES), DEFAULT_LANGUAGE) or DEFAULT_LANGUAGE


def speak_languages(app: Flask) -> None:
    """Binds the catalogues in `translations/` to the application."""
    Babel(
        app,
        default_locale=DEFAULT_LANGUAGE,
        default_translation_directories=str(TRANSLATIONS),
        locale_selector=chosen_language,
    )


def label_language(response: Response) -> Response:
    """Says in the headers which language was chosen, and remembers a choice made in the menu."""
    response.headers["Content-Language"] = chosen_language()
    response.vary.update(("Accept-Language", "Cookie"))
    wish = request.args.get("lang")
    if wish in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE,
            str(wish),
            max_age=LANGUAGE_COOKIE_AGE_S,
            samesite="Lax",
            secure=request.is_secure,
            httponly=True,
        )
    return response
