"""What the pages say about states, reasons, bands and diagnoses, by code, in the language of the request.

Two rules hold for every sentence here: nothing is worded as a diagnosis, and nothing reassures beyond the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flask_babel import LazyString
from flask_babel import lazy_gettext as _

from services.analysis.results import Band
from services.analysis.states import AnalysisState


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a photograph was not answered for, and how the next one can be."""

    heading: LazyString
    advice: LazyString


@dataclass(frozen=True, slots=True)
class BandWords:
    """A risk band in words: a short label, the heading of the answer, what it means and what it does not."""

    label: LazyString
    heading: LazyString
    meaning: LazyString


@dataclass(frozen=True, slots=True)
class Guidance:
    """What to do next and how soon."""

    urgency: LazyString
    steps: tuple[LazyString, ...]
    #: Weeks after which a reminder makes sense: never later than the visit that is advised.
    remind_in_weeks: int


@dataclass(frozen=True, slots=True)
class DiagnosisName:
    """A kind of lesion: the name people use and the one that stands in a doctor's letter."""

    plain: LazyString
    medical: LazyString


#: The steps that a person watches, in order.
STAGES: Mapping[AnalysisState, LazyString] = MappingProxyType(
    {
        AnalysisState.QUEUED: _("Waiting for its turn"),
        AnalysisState.PREPARING: _("Checking and preparing the photo"),
        AnalysisState.PREPARED: _("Handing it to the four networks"),
        AnalysisState.STACKING: _("Looking, and combining what they see"),
    }
)

REFUSALS: Mapping[str, Refusal] = MappingProxyType(
    {
        "not_an_image": Refusal(
            _("This file is not a photo"), _("Choose a photo of the spot, for example straight from the camera.")
        ),
        "unsupported_format": Refusal(
            _("This kind of image cannot be read"),
            _("Send a still photo as JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF."),
        ),
        "animated": Refusal(_("Moving images cannot be judged"), _("Send a single still photo of the spot.")),
        "empty": Refusal(_("The file is empty"), _("Choose the photo again and send it once more.")),
        "truncated": Refusal(_("The file is damaged or incomplete"), _("Send it once more, or take the photo again.")),
        "too_many_pixels": Refusal(
            _("The image is too large"), _("Send a photo of at most 60 megapixels, or cut out the part with the spot.")
        ),
        "too_small": Refusal(
            _("The image is too small to judge"),
            _("Send the original photo instead of a preview or a screenshot."),
        ),
        "blank": Refusal(
            _("The photo shows only one even colour"),
            _("Make sure that nothing covers the lens and that the spot is in view."),
        ),
        "too_dark": Refusal(_("The photo is too dark"), _("Go to a window or switch on a lamp, and take it again.")),
        "too_bright": Refusal(_("The photo is overexposed"), _("Take it again without flash and out of direct sun.")),
        "too_blurred": Refusal(
            _("The photo is out of focus"),
            _("Hold still about 10 cm away, tap the spot on the screen to focus, and take it again."),
        ),
        "glare": Refusal(_("The skin reflects the light"), _("Tilt the camera a little or switch off the flash.")),
        "no_lesion_found": Refusal(
            _("No spot stands out from the skin"),
            _("Make sure that the spot is in the middle of the photo and in focus."),
        ),
        "off_centre": Refusal(
            _("The spot is far from the middle"), _("Take the photo again with the spot in the centre.")
        ),
        "cut_off": Refusal(_("The spot reaches over the edge"), _("Step back until you see skin all around it.")),
        "not_a_lesion": Refusal(
            _("This does not look like a spot on skin"),
            _("The networks only know close-up photos of single spots on skin. Take one of the spot itself."),
        ),
    }
)

NO_PHOTOGRAPH = Refusal(_("No photo was chosen"), _("Please choose or take a photo first."))
NO_AGE = Refusal(
    _("That is no age"),
    _("Please give it in whole years up to 120, or leave it empty, and choose the photo once more."),
)
ONE_PHOTOGRAPH = Refusal(_("One photo at a time"), _("Please choose one photo; send the next one afterwards."))

#: For a code that came with a newer release than this table.
UNKNOWN_REFUSAL_HEADING = _("This photo cannot be answered for")

FAILED_SENTENCE = _("Something went wrong on our side; it is not about your photo or your skin. Please try again.")

#: Deliberately never "harmless" or "fine": every band keeps the possibility of cancer in sight.
BANDS: Mapping[Band, BandWords] = MappingProxyType(
    {
        Band.LOW: BandWords(
            _("Low"),
            _("Few signs of skin cancer in this photo"),
            _("This is not an all-clear. A photo cannot rule out skin cancer."),
        ),
        Band.UNSURE: BandWords(
            _("Unsure"),
            _("The networks cannot tell"),
            _("That is an honest answer: photos like this one turned out either way too often."),
        ),
        Band.HIGH: BandWords(
            _("High"),
            _("Signs that a doctor should look at soon"),
            _("This is not a diagnosis. Many spots in this group turn out to be harmless, but they have to be seen."),
        ),
    }
)

GUIDANCE: Mapping[Band, Guidance] = MappingProxyType(
    {
        Band.LOW: Guidance(
            _("Keep watching it"),
            (
                _("Photograph the spot again in four to eight weeks and compare."),
                _("If it changes, or if any point of the check below applies, see a doctor."),
                _("Mention it at your next skin check."),
            ),
            remind_in_weeks=6,
        ),
        Band.UNSURE: Guidance(
            _("Have it looked at within four weeks"),
            (
                _("Make an appointment with a dermatologist or your family doctor."),
                _("Take the photos with you; the report below fits on one page."),
                _("If it changes before then, go sooner."),
            ),
            remind_in_weeks=2,
        ),
        Band.HIGH: Guidance(
            _("See a dermatologist promptly, within days rather than weeks"),
            (
                _("Call now and say that you have a spot that needs to be looked at soon."),
                _("Take the photos with you; the report below fits on one page."),
                _("Do not treat, scratch or cut the spot yourself."),
            ),
            remind_in_weeks=1,
        ),
    }
)

ALWAYS_GO = _(
    "Whatever this page says: a spot that is new and growing, bleeds, does not heal, or looks different from all your "
    "others should be seen by a doctor within days."
)

DIAGNOSES: Mapping[str, DiagnosisName] = MappingProxyType(
    {
        "mel": DiagnosisName(_("Melanoma"), _("malignant melanoma")),
        "nv": DiagnosisName(_("Mole"), _("melanocytic naevus")),
        "bcc": DiagnosisName(_("Basal cell cancer"), _("basal cell carcinoma")),
        "akiec": DiagnosisName(
            _("Sun-damage spot or squamous cell cancer"), _("actinic keratosis, squamous cell carcinoma")
        ),
        "bkl": DiagnosisName(_("Age spot or age wart"), _("solar lentigo, seborrhoeic keratosis")),
        "df": DiagnosisName(_("Firm skin nodule"), _("dermatofibroma")),
        "vasc": DiagnosisName(_("Blood vessel spot"), _("angioma, vascular lesion")),
    }
)

#: What feedback may name, the API's own vocabulary: the seven, with the name in the doctor's letter, and the rest.
FEEDBACK_DIAGNOSES: Mapping[str, LazyString] = MappingProxyType(
    {
        **{
            code: _("%(plain)s (%(medical)s)", plain=name.plain, medical=name.medical)
            for code, name in DIAGNOSES.items()
        },
        "other": _("Something else"),
    }
)

#: Who confirmed it; the API's own vocabulary, too.
FEEDBACK_SOURCES: Mapping[str, LazyString] = MappingProxyType(
    {
        "biopsy": _("a tissue sample (biopsy)"),
        "clinician": _("a doctor who looked at it"),
        "self": _("myself; no doctor has seen it"),
    }
)

ABCDE: tuple[tuple[str, LazyString, LazyString], ...] = (
    ("A", _("Asymmetry"), _("One half does not match the other.")),
    ("B", _("Border"), _("The edge is ragged, notched or blurred.")),
    ("C", _("Colour"), _("It has several colours: brown, black, red, white or blue.")),
    ("D", _("Diameter"), _("It is wider than 6 mm, about a pencil’s end; smaller ones can matter too.")),
    ("E", _("Evolution"), _("It has changed in size, shape or colour, or it itches or bleeds.")),
)

DISCLAIMER = _("LesionLens is research software, not a medical device. It makes no diagnosis and replaces no doctor.")
