"""The shapes of the API's answers, for its document and its tests.

`answers.py` makes the bodies; a contract test loads real ones through these schemas, which refuse unknown fields.
"""

from __future__ import annotations

from marshmallow import Schema
from marshmallow.fields import (
    UUID,
    Boolean,
    DateTime,
    Dict,
    Float,
    Integer,
    List,
    Nested,
    Raw,
    String,
)
from marshmallow.validate import Length, OneOf, Range

from services.analysis.results import ATTENTION_SIDE, CLASSES, NETWORKS, Band
from services.analysis.states import AnalysisState
from services.webhooks.addresses import MAX_WEBHOOK_URL_CHARS

_SHARE = Range(0, 1)
_STATES = [state.value for state in AnalysisState if state is not AnalysisState.DELETED]


class NetworkSchema(Schema):
    """One network's opinion."""

    name = String(required=True, validate=OneOf(NETWORKS))
    version = Integer(required=True)
    logit = Float(required=True, metadata={"description": "Malignant against benign; unbounded."})
    probability = Float(required=True, validate=_SHARE, metadata={"description": "Sigmoid of the logit."})


class DiagnosisSchema(Schema):
    """One of the seven diagnoses and its probability; together they sum to 1."""

    name = String(required=True, validate=OneOf(CLASSES))
    label = String(required=True)
    malignant = Boolean(required=True)
    probability = Float(required=True, validate=_SHARE)


class GuidanceSchema(Schema):
    """What to do next. Never a diagnosis, never an all-clear."""

    urgency = String(required=True, validate=OneOf(["promptly", "soon", "watch"]))
    headline = String(required=True)
    steps = List(String(), required=True)


class ReasonSchema(Schema):
    """Why there is no result, or what speaks against trusting it: a stable code and a sentence."""

    code = String(required=True)
    sentence = String(required=True)


class NetworkExplanationSchema(Schema):
    """What one network added to the answer, in log-odds, and where it looked by itself."""

    name = String(required=True, validate=OneOf(NETWORKS))
    coefficient = Float(required=True)
    contribution = Float(required=True, metadata={"description": "Coefficient times logit, in log-odds."})
    attention = List(
        List(Float(), validate=Length(equal=ATTENTION_SIDE)), required=True, validate=Length(equal=ATTENTION_SIDE)
    )


class ExplanationSchema(Schema):
    """How the probability came about: sigmoid(intercept + contributions + of_age); and the ends of the bands."""

    intercept = Float(required=True)
    low_below = Float(required=True, validate=_SHARE)
    high_from = Float(required=True, validate=_SHARE)
    networks = List(Nested(NetworkExplanationSchema), required=True, validate=Length(equal=len(NETWORKS)))
    of_age = Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "The part that depends on the person's age, in log-odds; null: it was not counted in."
        },
    )


class FrameSchema(Schema):
    """A square within a photograph's centre square, in sides of that."""

    left = Float(required=True, validate=_SHARE)
    top = Float(required=True, validate=_SHARE)
    side = Float(required=True, validate=_SHARE)


class ResultSchema(Schema):
    """A finished analysis."""

    probability = Float(
        required=True, validate=_SHARE, metadata={"description": "Calibrated probability of malignancy."}
    )
    probability_without_age = Float(
        required=True,
        allow_none=True,
        validate=_SHARE,
        metadata={
            "description": "From the photograph alone. Null where that is all there was: no age was told, or these"
            " models make nothing of it."
        },
    )
    band = String(
        required=True,
        validate=OneOf([band.value for band in Band]),
        metadata={"description": "By the probability; but never low for what does not look like a lesion (`force`)."},
    )
    networks = List(Nested(NetworkSchema), required=True, validate=Length(equal=len(NETWORKS)))
    classes = List(Nested(DiagnosisSchema), required=True, validate=Length(equal=len(CLASSES)))
    attention = List(
        List(Float(), validate=Length(equal=ATTENTION_SIDE)),
        required=True,
        validate=Length(equal=ATTENTION_SIDE),
        metadata={"description": "Where the networks looked in the centre square, 0–1, row by row."},
    )
    model_version = String(required=True)
    guidance = Nested(GuidanceSchema, required=True)
    concerns = List(
        Nested(ReasonSchema),
        required=True,
        metadata={"description": "What is wrong with the photograph, though it was answered for."},
    )
    hair_share = Float(
        required=True, allow_none=True, metadata={"description": "Share of pixels that were hair, painted over."}
    )
    source_size = List(
        Integer(), required=True, allow_none=True, metadata={"description": "Width and height of the photograph."}
    )
    frame = Nested(
        FrameSchema,
        required=True,
        allow_none=True,
        metadata={"description": "What was looked at, and what `attention` is of, in the photograph's centre square."},
    )
    disclaimer = String(required=True)
    explanation = Nested(ExplanationSchema, metadata={"description": "When `explain` was asked for."})


class BatchPlaceSchema(Schema):
    """Where in which batch an analysis stands."""

    id = UUID(required=True)
    position = Integer(required=True)


class AnalysisSchema(Schema):
    """One photograph and what became of it."""

    id = UUID(required=True)
    state = String(required=True, validate=OneOf(_STATES))
    stage = String(required=True, metadata={"description": "The state in words."})
    created_at = DateTime(required=True)
    finished_at = DateTime(required=True, allow_none=True)
    force = Boolean(required=True)
    store = Boolean(required=True)
    tta = Integer(
        required=True,
        allow_none=True,
        metadata={"description": "Sides that were asked for; null: the models' own."},
    )
    explain = Boolean(required=True)
    age = Integer(required=True, allow_none=True, metadata={"description": "Of the person, in years; null: not told."})
    image_stored = Boolean(required=True)
    links = Dict(keys=String(), values=String(), required=True)
    waiting_ahead = Integer(metadata={"description": "Unfinished analyses accepted before it; while queued."})
    batch = Nested(BatchPlaceSchema)
    reason = Nested(ReasonSchema, metadata={"description": "With the states rejected and failed."})
    result = Nested(ResultSchema, metadata={"description": "With the state done."})


class AnalysisPageSchema(Schema):
    """Some of a key's analyses, the newest first. `links.next` leads to the next page; it is absent on the last."""

    items = List(Nested(AnalysisSchema), required=True)
    links = Dict(keys=String(), values=String(), required=True)


class BatchItemSchema(AnalysisSchema):
    """One photograph of a batch, as it was taken in."""

    position = Integer(required=True)
    name = String(metadata={"description": "As sent; told once, in this answer, and kept nowhere."})


class AcceptedBatchSchema(Schema):
    """A batch that was taken in."""

    id = UUID(required=True)
    total = Integer(required=True)
    items = List(Nested(BatchItemSchema), required=True)
    links = Dict(keys=String(), values=String(), required=True)


class BatchSchema(Schema):
    """A batch, how far it is, and its analyses in the order of their upload."""

    id = UUID(required=True)
    state = String(required=True, validate=OneOf(["working", "finished"]))
    total = Integer(required=True)
    finished = Integer(required=True)
    counts = Dict(keys=String(), values=Integer(), required=True, metadata={"description": "By state."})
    items = List(Nested(AnalysisSchema), required=True)
    links = Dict(keys=String(), values=String(), required=True)


class FeedbackRequestSchema(Schema):
    """What the lesion was confirmed as."""

    diagnosis = String(required=True, validate=OneOf([*CLASSES, "other"]))
    source = String(required=True, validate=OneOf(["biopsy", "clinician", "self"]))
    consent = Boolean(
        required=True,
        truthy={True},
        falsy={False},
        metadata={"description": "Whether photograph and diagnosis may be used for training. Revocable."},
    )


class FeedbackSchema(Schema):
    """A feedback that was stored. Its id is needed to revoke it."""

    id = UUID(required=True)
    links = Dict(keys=String(), values=String(), required=True)


class WebhookRequestSchema(Schema):
    """Where to tell that an analysis has ended."""

    url = String(
        required=True,
        validate=Length(min=1, max=MAX_WEBHOOK_URL_CHARS),
        metadata={"description": "An https address on the public internet.", "example": "https://clinic.example/hook"},
    )


class WebhookSchema(Schema):
    """An address that is told when an analysis of the API key has ended."""

    id = UUID(required=True)
    url = String(required=True)
    created_at = DateTime(required=True)
    secret = String(metadata={"description": "Told once, when it is made: `whsec_` and base64 of the signing key."})
    links = Dict(keys=String(), values=String(), required=True)


class WebhookListSchema(Schema):
    """The API key's webhooks, the oldest first."""

    items = List(Nested(WebhookSchema), required=True)
    links = Dict(keys=String(), values=String(), required=True)


class DeliverySchema(Schema):
    """One message to a webhook, and how its delivery went."""

    id = UUID(required=True, metadata={"description": "The message's `webhook-id`."})
    type = String(required=True, metadata={"example": "analysis.done"})
    analysis_id = UUID(required=True, allow_none=True)
    state = String(required=True, validate=OneOf(["waiting", "delivered", "given_up"]))
    attempts = Integer(required=True)
    created_at = DateTime(required=True)
    next_attempt_at = DateTime(required=True, allow_none=True)
    delivered_at = DateTime(required=True, allow_none=True)
    last_status = Integer(required=True, allow_none=True, metadata={"description": "What the receiver answered with."})
    last_error = String(required=True, allow_none=True)


class DeliveriesSchema(Schema):
    """The latest deliveries of a webhook, the newest first."""

    items = List(Nested(DeliverySchema), required=True)
    links = Dict(keys=String(), values=String(), required=True)


class ModelNetworkSchema(Schema):
    """One of the four networks, as it is served."""

    name = String(required=True, validate=OneOf(NETWORKS))
    version = Integer(required=True)
    sha256 = String(required=True, metadata={"description": "Of its saved_model.pb."})
    test_time_augmentation = Integer(
        required=True, metadata={"description": "Turns it looks at, unless `tta` asks for others."}
    )


class ModelsSchema(Schema):
    """The models in use and how well they were measured to work."""

    model_version = String(required=True)
    networks = List(Nested(ModelNetworkSchema), required=True)
    classes = List(String(), required=True)
    bands = Dict(required=True, metadata={"description": "Operating points: where the bands begin and end."})
    test_time_augmentation = Integer(required=True)
    out_of_distribution = Boolean(required=True)
    age = Boolean(required=True, metadata={"description": "Whether the person's age counts, where it is told."})
    metrics = Dict(required=True)


class HealthSchema(Schema):
    """The process is alive."""

    status = String(required=True)


class ReadinessSchema(Schema):
    """Which parts answer."""

    status = String(required=True, validate=OneOf(["ready", "not ready"]))
    parts = Dict(keys=String(), values=Boolean(), required=True)


class BundleSchema(Schema):
    """A FHIR R4 Bundle: one DiagnosticReport and its Observations."""

    class Meta:
        """FHIR has fields of its own, described at hl7.org/fhir/R4."""

        unknown = "include"

    resourceType = String(required=True)  # noqa: N815 - FHIR's own name
    type = String(required=True)
    entry = List(Raw(), required=True)
