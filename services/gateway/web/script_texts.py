"""The sentences that scripts say, handed to them in a `data-texts` attribute in the page's language."""

from __future__ import annotations

from flask_babel import gettext as _

from services.analysis.errors import IdempotencyMismatchError
from services.gateway.web.problem_pages import OTHER_STATUS, STATUS_WORDS
from services.gateway.web.wording import REFUSALS, Refusal


def start_texts() -> dict[str, str]:
    """For choosing and sending photos."""
    return {
        "preview": _("This is the square that the networks will see. Is the spot inside the ring?"),
        "noPreview": _("This browser cannot show this photo, but it can be sent."),
        "several": _("{count} photos chosen; each gets its own answer."),
        "sent": _("Sent and listed under “My spots”: {count}."),
        "none": _("Please choose or take a photo first."),
        "tooLarge": _("This photo is larger than {size} MB. Please choose a smaller one."),
        "sending": _("Sending …"),
        "offline": _("The connection was lost. Your photo is still here; please try again."),
        "remove": _("Remove {name}"),
        "photo": _("Photo {number}"),
        # An answer was lost, and a box changed before the photo was sent again.
        f"/problems/{IdempotencyMismatchError.problem}": _(
            "This photo has already arrived, with other settings. Set them back and send it again to see its answer, "
            "or choose it again to send it with the new ones."
        ),
        "other": _sentence(OTHER_STATUS),
        **{f"status_{status}": _sentence(words) for status, words in STATUS_WORDS.items()},
        **{f"code_{code}": _sentence(words) for code, words in REFUSALS.items()},
    }


def analysis_texts() -> dict[str, str]:
    """For following one analysis."""
    return {
        "offline": _("The connection was lost. Trying again …"),
        "ahead": _("– {count} before yours"),
        "saved": _("Saved in this browser."),
    }


def history_texts() -> dict[str, str]:
    """For the list of spots."""
    return {
        "low": _("Low"),
        "unsure": _("Unsure"),
        "high": _("High"),
        "held": _("The photo could be better: have a look"),
        "rejected": _("No answer: retake the photo"),
        "failed": _("No answer this time"),
        "working": _("Still working"),
        "gone": _("Deleted on the server"),
        "unnamed": _("Not named yet"),
        "deleted": _("Deleted, here and on the server."),
        "notDeleted": _("Could not be deleted on the server; please try again."),
        "allDeleted": _("Everything was deleted, here and on the server."),
        "saved": _("Saved in this browser."),
        "earlier": _("Earlier"),
        "later": _("Later"),
        "photoOf": _("Photo of {date}"),
        "aged": _("age counted in"),
        "compareHint": _(
            "Look for changes in size, shape and colour. A change is a reason to see a doctor, whatever the numbers "
            "say."
        ),
    }


def _sentence(words: Refusal) -> str:
    return f"{words.heading}. {words.advice}"
