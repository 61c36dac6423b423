"""Webhooks of an API key: an address is told when one of the key's analyses has ended."""

from __future__ import annotations

import datetime as dt
import uuid
from http import HTTPStatus
from typing import Any

import marshmallow
from flask import Response, request

from services.analysis.webhooks import Delivery, Webhook
from services.gateway.access import caller
from services.gateway.answers import json_response
from services.gateway.api import problems
from services.gateway.api.blueprint import ApiBlueprint
from services.gateway.api.requests import gateway, json_object, limit_body, parse_webhook_id
from services.gateway.api.schemas import (
    DeliveriesSchema,
    DeliverySchema,
    WebhookListSchema,
    WebhookRequestSchema,
    WebhookSchema,
)
from services.gateway.errors import ApiKeyMissingError, InvalidFieldsError
from services.gateway.policy import route_policy
from services.webhooks.addresses import MAX_WEBHOOK_URL_CHARS, target_of
from services.webhooks.signature import told_secret

blueprint = ApiBlueprint(
    "webhooks", __name__, url_prefix="/v1/webhooks", description="Be told when an analysis of your key has ended."
)

#: An address, escaped as JSON may be, and the field's name.
MAX_WEBHOOK_BYTES = 6 * MAX_WEBHOOK_URL_CHARS + 1_024

_SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}]
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/WebhookRequest"}}},
}
_AFTER_CREATION = {
    operation: {"operationId": operation, "parameters": {"webhook_id": "$response.body#/id"}}
    for operation in ("webhooks_deliveries", "webhooks_send_test", "webhooks_remove")
}


@blueprint.route("", methods=["POST"])
@blueprint.doc(security=_SECURITY, requestBody=_BODY, responses={HTTPStatus.CREATED.value: {"links": _AFTER_CREATION}})
@blueprint.response(201, WebhookSchema, headers={"Location": {"schema": {"type": "string"}}})
@problems(400, 413, 422, 503)
@route_policy(auth="key", limit="60/minute")
def create() -> Response:
    """Tell an address when an analysis has ended

    The answer holds the signing secret, this once. Messages follow *Standard Webhooks*: `webhook-id`,
    `webhook-timestamp` and `webhook-signature` (`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`). They say
    that an analysis ended and how, not what was found. One that is not answered with 2xx within seconds is sent again,
    with the same id, up to eight times in 33 hours. Refuse timestamps older than five minutes, and ids that you know.
    """
    parts = gateway()
    limit_body(request, MAX_WEBHOOK_BYTES)
    try:
        url = str(WebhookRequestSchema().load(json_object(request))["url"])
    except marshmallow.ValidationError as error:
        raise InvalidFieldsError("The webhook was not stored.", error.messages) from error
    target_of(url, parts.settings.webhook_networks())
    webhook, secret = parts.webhooks.add(_key_id(), url)
    answer = _webhook(webhook)
    response = json_response({**answer, "secret": told_secret(secret)}, 201)
    response.headers["Location"] = answer["links"]["self"]
    return response


@blueprint.route("", methods=["GET"])
@blueprint.doc(security=_SECURITY)
@blueprint.response(200, WebhookListSchema)
@problems(503)
@route_policy(auth="key", limit="600/minute")
def list_own() -> Response:
    """The API key's webhooks"""
    items = [_webhook(webhook) for webhook in gateway().webhooks.all(_key_id())]
    return json_response({"items": items, "links": {"self": blueprint.url_prefix}})


@blueprint.route("/<string:webhook_id>", methods=["DELETE"])
@blueprint.doc(security=_SECURITY)
@blueprint.response(204)
@problems(404, 503)
@route_policy(auth="key", limit="300/minute")
def remove(webhook_id: str) -> Response:
    """Forget a webhook, its secret and its deliveries"""
    gateway().webhooks.remove(_key_id(), parse_webhook_id(webhook_id))
    return Response(status=204)


@blueprint.route("/<string:webhook_id>/test", methods=["POST"])
@blueprint.doc(security=_SECURITY)
@blueprint.response(202, DeliverySchema, description="It will be delivered like any other message.")
@problems(404, 503)
@route_policy(auth="key", limit="30/minute")
def send_test(webhook_id: str) -> Response:
    """Send a test message"""
    return json_response(_delivery(gateway().webhooks.test(_key_id(), parse_webhook_id(webhook_id))), 202)


@blueprint.route("/<string:webhook_id>/deliveries", methods=["GET"])
@blueprint.doc(security=_SECURITY)
@blueprint.response(200, DeliveriesSchema)
@problems(404, 503)
@route_policy(auth="key", limit="600/minute")
def deliveries(webhook_id: str) -> Response:
    """How the latest deliveries of a webhook went"""
    parsed = parse_webhook_id(webhook_id)
    items = [_delivery(delivery) for delivery in gateway().webhooks.deliveries(_key_id(), parsed)]
    return json_response({"items": items, "links": {"self": f"{blueprint.url_prefix}/{parsed}/deliveries"}})


def _key_id() -> uuid.UUID:
    key = caller().key
    if key is None:  # the policy has made sure; this tells the type checker
        raise ApiKeyMissingError
    return key.id


def _webhook(webhook: Webhook) -> dict[str, Any]:
    own = f"{blueprint.url_prefix}/{webhook.id}"
    return {
        "id": str(webhook.id),
        "url": webhook.url,
        "created_at": _time(webhook.created_at),
        "links": {"self": own, "deliveries": f"{own}/deliveries", "test": f"{own}/test"},
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": str(delivery.id),
        "type": delivery.event,
        "analysis_id": str(delivery.analysis_id) if delivery.analysis_id else None,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": _time(delivery.created_at),
        "next_attempt_at": _time(delivery.due_at),
        "delivered_at": _time(delivery.delivered_at),
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
    }


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")
