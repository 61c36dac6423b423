"""The pages for people: server-rendered, in four languages, without accounts, trackers or anything from other sites."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from services.gateway.report_words import REPORT_WORDS

# Importing the three modules of pages gives the blueprint its routes.
from services.gateway.web import analysis_page, reading_pages, sending_page  # noqa: F401
from services.gateway.web.blueprint import DESK, page_globals, pages
from services.gateway.web.desk import Desk
from services.gateway.web.formats import day, number, percentage
from services.gateway.web.gateway_desk import gateway_desk
from services.gateway.web.languages import speak_languages
from services.gateway.web.problem_pages import tell_as_page
from services.gateway.web.report_words import words_of_report


def register_pages(app: Flask, desk: Callable[[], Desk] | None = None) -> None:
    """Adds the pages to the gateway, and readable error pages for people.

    Args:
        app: the gateway; its parts are at `app.extensions["lesionlens"]`.
        desk: what the pages ask instead of those parts.
    """
    speak_languages(app)
    app.extensions[DESK] = desk or gateway_desk
    app.extensions[REPORT_WORDS] = words_of_report
    app.register_blueprint(pages)
    app.context_processor(page_globals)
    app.add_template_filter(percentage, "percentage")
    app.add_template_filter(day, "day")
    app.add_template_filter(number, "number")
    app.after_request(tell_as_page)


__all__ = ["register_pages"]
