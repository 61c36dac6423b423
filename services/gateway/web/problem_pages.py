"""Errors as pages: what a program gets as problem+json, a person gets as a readable page with the same status.

One place turns any exception into a problem (`services.gateway.problems`); this looks at the finished response and,
when a browser asked for a page, tells the same in words. Addresses of programs are never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from flask import Response, render_template, request
from flask_babel import lazy_gettext as _

from services.gateway.web.languages import label_language
from services.gateway.web.wording import FAILED_SENTENCE, Refusal

#: First parts of addresses that programs use; everything else is a page.
PROGRAM_PATHS = frozenset({"v1", "healthz", "readyz", "metrics", "openapi.json", "docs", "problems", "assets"})

#: What each status means to a person, and what to do.
STATUS_WORDS: Mapping[int, Refusal] = MappingProxyType(
    {
        400: Refusal(
            _("Something was missing in what was sent"), _("Please go back, choose a photo and send it again.")
        ),
        403: Refusal(
            _("The form had expired"), _("Nothing was stored. Please open the page again and send it once more.")
        ),
        404: Refusal(
            _("There is nothing here"),
            _("The address may be mistyped, or it never existed. Addresses of answers are long; copy them whole."),
        ),
        408: Refusal(
            _("The upload took too long"), _("Nothing was stored. Please try again with a better connection.")
        ),
        410: Refusal(
            _("This answer was deleted"),
            _("You or the time limit deleted it, and nothing of it is left here. You can send the photo again."),
        ),
        413: Refusal(_("The photo is too large"), _("Send a smaller one; a phone’s own JPEG is well below the limit.")),
        415: Refusal(
            _("This file cannot be read as a photo"),
            _("Send a still photo as JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF."),
        ),
        422: Refusal(_("This image cannot be used"), _("Take a new photo and send it as it comes from the camera.")),
        429: Refusal(_("That was a lot at once"), _("Please wait a minute and go on more slowly.")),
        503: Refusal(
            _("We cannot take photos right now"),
            _("Please try again soon. If you are worried, do not wait for us: see a doctor."),
        ),
    }
)
#: The same on pages that send no photo: there it may have been stored long before.
_WITHOUT_A_PHOTO: Mapping[int, Refusal] = MappingProxyType(
    {
        403: Refusal(_("The form had expired"), _("Please open the page again and send it once more.")),
        405: Refusal(_("There is nothing to see here"), _("Please go back to the page before.")),
        503: Refusal(
            _("This does not work right now"),
            _("Please try again soon. If you are worried, do not wait for us: see a doctor."),
        ),
    }
)
OTHER_STATUS = Refusal(_("No answer this time"), FAILED_SENTENCE)


def words_of(status: int) -> Refusal:
    """What a status says to a person."""
    return STATUS_WORDS.get(status, OTHER_STATUS)


def wants_page() -> bool:
    """Whether a person's browser asks for one of the pages, rather than a program for data."""
    if request.path.split("/")[1] in PROGRAM_PATHS:
        return False
    # Browsers name text/html; programs that take anything (`*/*`) are better served by the problem itself.
    return any(kind == "text/html" for kind, _quality in request.accept_mimetypes)


def tell_as_page(response: Response) -> Response:
    """Replaces the body of a problem+json response by a page, where a page was asked for."""
    if response.mimetype != "application/problem+json" or not wants_page():
        return response
    words = words_of(response.status_code)
    if request.endpoint != "pages.send":
        words = _WITHOUT_A_PHOTO.get(response.status_code, words)
    page = render_template("web/problem.html", status=response.status_code, heading=words.heading, advice=words.advice)
    response.set_data(page)
    response.content_type = "text/html; charset=utf-8"
    return label_language(response)
