"""Messages go to the public internet and to networks that were named, whatever form an address is written in."""

from __future__ import annotations

import ipaddress
import socket
import threading

import pytest

from services.analysis.errors import WebhookAddressError
from services.webhooks import addresses
from services.webhooks.addresses import MAX_WEBHOOK_URL_CHARS, target_of

PUBLIC = "93.184.215.14"


def leads_to(*addresses: str):
    return lambda host, port: list(addresses)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "169.254.169.254",
        "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.1.2.3", "240.0.0.1",
        "255.255.255.255",
        "::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:c0a8:101::", "2001:0:4136::1",
    ],
)  # fmt: skip
def test_what_is_not_the_public_internet_is_refused(address):
    with pytest.raises(WebhookAddressError, match="public internet"):
        target_of("https://receiver.example/hook", resolver=leads_to(address))


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"])
def test_the_public_internet_is_taken(address):
    target = target_of("https://receiver.example/hook?x=1", resolver=leads_to(address))
    assert (target.scheme, target.host, target.port, target.path) == ("https", "receiver.example", 443, "/hook?x=1")
    assert target.address == str(ipaddress.ip_address(address))


def test_one_inner_address_among_public_ones_is_enough_to_refuse():
    with pytest.raises(WebhookAddressError, match="public internet"):
        target_of("https://receiver.example/", resolver=leads_to(PUBLIC, "127.0.0.1"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]", "localhost"]
)
def test_however_the_loopback_is_written_it_is_found_out(host):
    with pytest.raises(WebhookAddressError, match="public internet"):
        target_of(f"https://{host}/")


@pytest.mark.parametrize(
    "url",
    [
        "", "receiver.example", "ftp://receiver.example/", "file:///etc/passwd", "gopher://receiver.example/",
        "https://", "https:///path", "https://user:secret@receiver.example/", "https://user@receiver.example/",
        "https://receiver.example/#part", "https://receiver.example:0/", "https://receiver.example:99999/",
        "https://receiver.example:port/", "https://[::1/", "https://receiver.example/a b",
        "https://receiver.example/\r\nX: 1",
        "https://bücher.example/", "https://receiver.example/" + "x" * MAX_WEBHOOK_URL_CHARS,
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_anything_is_looked_up(url):
    def never(host, port):
        pytest.fail("it was looked up")

    with pytest.raises(WebhookAddressError):
        target_of(url, resolver=never)


def test_a_name_nobody_knows_is_refused():
    def unknown(host, port):
        raise OSError("Name or service not known")

    with pytest.raises(WebhookAddressError, match="not known"):
        target_of("https://receiver.invalid/", resolver=unknown)


def test_a_resolver_that_never_answers_holds_nobody_up(monkeypatch):
    answers = threading.Event()

    def silent(*_, **__):
        answers.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    monkeypatch.setattr(addresses, "RESOLVE_WITHIN_S", 0.05)
    try:
        with pytest.raises(WebhookAddressError, match="not known"):
            target_of("https://receiver.example/")
        assert not answers.is_set()
    finally:
        answers.set()


def test_named_networks_are_taken_with_http_and_nothing_beside_them_is():
    allowed = [ipaddress.ip_network("10.1.0.0/16")]
    inside = target_of("http://inside:8080/", allowed, leads_to("10.1.2.3"))
    assert (inside.address, inside.port) == ("10.1.2.3", 8080)
    assert target_of("http://inside/", allowed, leads_to("::ffff:10.1.2.3")).address == "10.1.2.3"
    for elsewhere in ("10.2.0.1", "127.0.0.1"):
        with pytest.raises(WebhookAddressError, match="public internet"):
            target_of("http://inside/", allowed, leads_to(elsewhere))
    with pytest.raises(WebhookAddressError, match="https"):
        target_of("http://receiver.example/", allowed, leads_to(PUBLIC))
