"""Headers that every response carries."""

from __future__ import annotations

from flask import Flask, Response, request

#: Everything comes from this origin. `blob:` and `data:` only for images: the preview of a photograph that has not been
#: sent yet, and small pictures inside a style sheet.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # An address contains an id, and the id is the permission to read: it must not travel to other sites.
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


#: For requests that came over TLS (RFC 6797): two years, as browsers' preload lists ask. Not for other names of the
#: domain, which are not ours to speak for.
STRICT_TRANSPORT_SECURITY = f"max-age={2 * 365 * 24 * 3600}"


def add_security_headers(response: Response) -> Response:
    """Adds what the response has not set itself."""
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", STRICT_TRANSPORT_SECURITY)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def register_security(app: Flask) -> None:
    """Makes every response of the application carry the headers."""
    app.after_request(add_security_headers)
