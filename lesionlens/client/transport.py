"""HTTP with patience: one request at a time, tried again when that is safe and may help."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, SSLError
from urllib3.util import Url, parse_url

from lesionlens.client.errors import NoAnswerError, UnexpectedAnswerError, problem_error

#: Statuses that may pass by themselves; the service stored nothing when it answered so.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})

#: Seconds before the second try; doubled for each further one, up to the longest.
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 20.0
#: Seconds that are waited because the service asks for it. Rate limits count by the minute; what asks for more (a
#: quota by the day) is for the caller to decide.
LONGEST_RETRY_AFTER_S = 90.0
#: Seconds by which a wait that the service asked for is stretched at most, so that clients refused together do not
#: come back together.
RETRY_AFTER_SPREAD_S = 1.0

#: Name and value of a form field, or name and (file name, content, media type).
Field = tuple[str, str | tuple[str, bytes, str]]

_chance = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer below 400."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The JSON object in the body."""
        body = _object(self.body)
        if body is None:
            raise UnexpectedAnswerError("The answer is no JSON object: is this the address of a LesionLens service?")
        return body


class Transport:
    """Requests to one service.

    Connections are kept and shared between threads. Proxies are those of the environment (`HTTPS_PROXY`, `ALL_PROXY`,
    `NO_PROXY`), with the name and password in their addresses. Redirects are not followed, so that neither a photograph
    nor a key goes where nobody meant it to go.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float, retries: int) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("base_url must begin with http:// or https:// and name a host")
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._retries = retries
        self._headers = {"Accept": "application/json, application/problem+json", "User-Agent": "lesionlens-client"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        named = getproxies()
        proxy = None if proxy_bypass(parts.hostname) else named.get(parts.scheme) or named.get("all")
        self._pool = _through(proxy) if proxy else urllib3.PoolManager()

    def close(self) -> None:
        """Closes the kept connections."""
        self._pool.clear()

    def request(
        self,
        method: str,
        path: str,
        *,
        fields: Iterable[Field] | None = None,
        headers: Mapping[str, str] | None = None,
        waiting_s: float = 0.0,
        end: float = float("inf"),
    ) -> Reply:
        """One request, and again as often as `retries` says while that may help.

        Every request here may be repeated: uploads carry an Idempotency-Key, and reading or deleting twice is once.

        Args:
            method: the HTTP method.
            path: below the service's address, with its leading slash.
            fields: a form, sent as multipart/form-data.
            headers: besides the usual ones.
            waiting_s: seconds the service was asked to wait before it answers.
            end: no further try begins after this time (`time.monotonic`).

        Raises:
            ProblemError: the service refused.
            NoAnswerError: nobody answered.
        """
        form = None if fields is None else list(fields)
        for tried in range(self._retries + 1):
            last = tried == self._retries
            try:
                reply = self._once(method, path, form, headers or {}, waiting_s)
            except HTTPError as error:
                hopeless = isinstance(error, SSLError | LocationParseError)
                pause_s = backoff_s(tried)
                if last or hopeless or time.monotonic() + pause_s > end:
                    raise NoAnswerError(f"{self._base_url} does not answer: {type(error).__name__}") from error
            else:
                if reply.status < 400:
                    return _understood(reply)
                wanted_s = retry_after_s(reply.headers.get("Retry-After"))
                pause_s = backoff_s(tried, wanted_s)
                may_help = reply.status in RETRIED_STATUSES
                too_long = (wanted_s or 0) > LONGEST_RETRY_AFTER_S or time.monotonic() + pause_s > end
                if last or not may_help or too_long:
                    raise problem_error(reply.status, _object(reply.body) or {}, wanted_s)
            time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _once(
        self, method: str, path: str, form: list[Field] | None, headers: Mapping[str, str], waiting_s: float
    ) -> Reply:
        response = self._pool.request(
            method,
            self._base_url + path,
            fields=form,
            headers={**self._headers, **headers},
            timeout=urllib3.Timeout(connect=self._timeout_s, read=self._timeout_s + waiting_s),
            retries=False,
            redirect=False,
        )
        return Reply(response.status, response.headers, response.data)


def _through(proxy: str) -> urllib3.ProxyManager:
    """Connections through a proxy, whose address may lack its scheme as it may for other programs."""
    try:
        url = parse_url(proxy if "://" in proxy else f"http://{proxy}")
    except LocationParseError:
        url = Url()
    if url.scheme not in {"http", "https"} or not url.host:
        # Without the address: it may hold a password.
        raise NoAnswerError(
            "The proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) cannot be used: only addresses "
            "that begin with http:// or https:// can. Name such a one, or name the service's host in NO_PROXY."
        )
    # As the bytes that the address stands for: what characters they are is between the user and the proxy.
    user = {"Proxy-Authorization": f"Basic {b64encode(unquote_to_bytes(url.auth)).decode()}"} if url.auth else {}
    return urllib3.ProxyManager(url.url, proxy_headers=user)


def backoff_s(tried: int, wanted_s: float | None = None) -> float:
    """Seconds until the next try, after `tried` + 1 tries.

    What the service asks for, and a little more; otherwise anything up to a bound that doubles ("full jitter": M.
    Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    if wanted_s is not None:
        return wanted_s + _chance.uniform(0, RETRY_AFTER_SPREAD_S)
    return _chance.uniform(0, min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**tried))


def retry_after_s(header: str | None) -> float | None:
    """Seconds in a Retry-After header, which may also be a date (RFC 9110, section 10.2.3); None without sense."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return max(0.0, (moment - dt.datetime.now(dt.UTC)).total_seconds())


def _understood(reply: Reply) -> Reply:
    if 300 <= reply.status < 400 and reply.status != 304:
        raise UnexpectedAnswerError(
            f"The service is elsewhere ({reply.status}): use {reply.headers.get('Location', 'that address')} instead."
        )
    return reply


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
