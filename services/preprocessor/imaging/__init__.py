"""Imaging: pure functions from an uploaded file to the tensor that the networks take."""

from services.preprocessor.imaging.header import ImageHeader, sniff
from services.preprocessor.imaging.metadata import scrub_metadata
from services.preprocessor.imaging.outcomes import PreparedLesion, QualityMeasures, Rejection
from services.preprocessor.imaging.parameters import DEFAULT, SIDE, ImagingParameters
from services.preprocessor.imaging.prepare import normalise, prepare_lesion, prepared

__all__ = [
    "DEFAULT",
    "SIDE",
    "ImageHeader",
    "ImagingParameters",
    "PreparedLesion",
    "QualityMeasures",
    "Rejection",
    "normalise",
    "prepare_lesion",
    "prepared",
    "scrub_metadata",
    "sniff",
]
