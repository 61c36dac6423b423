"""What a caller of the gateway can get wrong, each with its status and its problem type (RFC 9457)."""

from __future__ import annotations

from typing import ClassVar

from services.analysis.errors import LesionLensError, ServiceUnavailableError


class MalformedRequestError(LesionLensError):
    """A header, field or body does not have the form that the route asks for."""

    status = 400
    problem = "malformed-request"
    title = "The request cannot be understood"
    advice = "Compare it with the reference at /docs."


class ImageMissingError(LesionLensError):
    """The multipart field `image` is missing, or is text instead of a file."""

    status = 400
    problem = "image-missing"
    title = "There is no photograph in the request"
    advice = "Send the photograph as a file in the multipart field “image”: curl -F image=@photo.jpg …"


class ImageEmptyError(LesionLensError):
    """The file has no bytes."""

    status = 400
    problem = "image-empty"
    title = "The file is empty"
    advice = "Choose the photograph again; the one that was sent has no content."


class UploadTimeoutError(LesionLensError):
    """The body did not arrive within two minutes, nor kept coming at 1 Mbit/s after them."""

    status = 408
    problem = "upload-timeout"
    title = "The upload took too long"
    advice = "Send it again over a faster connection, or less at once: a smaller photograph, a batch in parts."


class ApiKeyMissingError(LesionLensError):
    """The address is only for holders of an API key."""

    status = 401
    problem = "api-key-missing"
    title = "This needs an API key"
    advice = "Send the header “Authorization: Bearer ll_…”; the operator makes keys with `lesionlens keys create`."
    #: RFC 6750, section 3.
    challenge: ClassVar[str] = 'Bearer realm="LesionLens"'


class ApiKeyInvalidError(LesionLensError):
    """The API key is unknown, misspelt or revoked."""

    status = 401
    problem = "api-key-invalid"
    title = "This API key is not valid"
    advice = "Compare it with the one the operator gave out, or ask for a new one. Without a key the limits are lower."
    challenge: ClassVar[str] = 'Bearer realm="LesionLens", error="invalid_token"'


class ScopeMissingError(LesionLensError):
    """The API key is valid, but not for this."""

    status = 403
    problem = "scope-missing"
    title = "This API key may not do that"
    advice = "Ask the operator for a key with the scope that is named."
    challenge: ClassVar[str] = 'Bearer realm="LesionLens", error="insufficient_scope"'


class NotFinishedError(LesionLensError):
    """The analysis has no result yet."""

    status = 409
    problem = "analysis-not-finished"
    title = "The analysis is not finished"
    advice = "Ask again when its state is “done”."
    #: Seconds a client is asked to wait: an analysis rarely takes longer.
    retry_after_s: ClassVar[int] = 1


class NoResultError(LesionLensError):
    """The analysis ended without a result."""

    status = 409
    problem = "analysis-without-result"
    title = "The analysis ended without a result"
    advice = "Read the reason in the analysis and take a new photograph."


class ImageGoneError(LesionLensError):
    """The photograph is no longer stored; its analysis may still be."""

    status = 410
    problem = "image-gone"
    title = "The photograph is no longer stored"
    advice = "Photographs are deleted some time after their analysis; the result stays longer."


class UploadTooLargeError(LesionLensError):
    """The body is larger than the route takes."""

    status = 413
    problem = "upload-too-large"
    title = "The upload is too large"
    advice = "Send a smaller photograph: a phone's own JPEG is well below the limit."


class UnsupportedImageError(LesionLensError):
    """The bytes are not an image of a kind that can be analysed. `code` says which."""

    status = 415
    problem = "unsupported-image"
    title = "This file cannot be analysed"
    advice = "Send a still photograph as JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF."

    def __init__(self, detail: str = "", code: str = "") -> None:
        super().__init__(detail)
        self.code = code


class UnreadableImageError(LesionLensError):
    """It is an image, but one that cannot or must not be decoded. `code` says why."""

    status = 422
    problem = "unreadable-image"
    title = "This image cannot be used"
    advice = "Take a new photograph and send it as it comes from the camera."

    def __init__(self, detail: str = "", code: str = "") -> None:
        super().__init__(detail)
        self.code = code


class UnusableArchiveError(LesionLensError):
    """A zip archive is damaged, encrypted, or breaks one of the limits."""

    status = 422
    problem = "unusable-archive"
    title = "The archive cannot be used"
    advice = "Send a plain zip archive of photographs, without a password, within the limits named at /docs."


class InvalidFieldsError(LesionLensError):
    """A JSON body is well formed but a field has a value it must not have."""

    status = 422
    problem = "invalid-fields"
    title = "A field has a value that is not allowed"
    advice = "Correct the fields listed under “errors”."

    def __init__(self, detail: str = "", errors: object = None) -> None:
        super().__init__(detail)
        self.errors = errors


class TooManyRequestsError(LesionLensError):
    """The route's rate limit is used up."""

    status = 429
    problem = "too-many-requests"
    title = "Too many requests"
    advice = "Wait for the time in Retry-After, then go on more slowly."

    def __init__(self, detail: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class FeedbackNotFoundError(LesionLensError):
    """The analysis has no such feedback."""

    status = 404
    problem = "feedback-not-found"
    title = "There is no such feedback"
    advice = "Check the id; it is the one the feedback was answered with."


class BatchNotFoundError(LesionLensError):
    """No batch has this id."""

    status = 404
    problem = "batch-not-found"
    title = "There is no such batch"
    advice = "Check the id; it is the one the upload was answered with."


class ModelsUnavailableError(ServiceUnavailableError):
    """The models' description (`stack.json`) is missing or damaged."""

    problem = "models-unavailable"
    title = "The models are not installed"
    advice = "The operator has to install the models; see the README."
