"""Where messages may go: the public internet, and networks that the operator named.

Whoever registers an address chooses what this service connects to, from inside its network (OWASP: server-side request
forgery). So a name is looked up once for each try, *every* address it leads to must be allowed, and the connection is
made to the address that was checked: a name that answers differently a moment later changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.analysis.errors import WebhookAddressError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Looks a host up: every numeric address it has. Raises OSError where there is none.
Resolver = Callable[[str, int], Sequence[str]]

#: Longer addresses are somebody's mistake; browsers and proxies draw the line here, too.
MAX_WEBHOOK_URL_CHARS = 2_000
#: Seconds that a look-up may take. Left alone, a resolver whose servers are silent goes on for half a minute.
RESOLVE_WITHIN_S = 5.0
_PORTS = {"https": 443, "http": 80}

#: IPv6 networks that stand for IPv4 addresses, and how far to the right the latter are: NAT64 (RFC 6052), 6to4
#: (RFC 3056) and the long withdrawn "compatible" ones.
_EMBEDDED = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
    (ipaddress.IPv6Network("::/96"), 0),
)
#: What the library calls global although no host of the internet is there: NAT64 of one's own (RFC 8215), Teredo
#: (RFC 4380), site-local (RFC 3879).
_NEVER = tuple(map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "2001::/32", "fec0::/10")))


@dataclass(frozen=True, slots=True)
class Target:
    """Where one message goes: `address` is connected to, `host` is what it must prove to be (TLS) and is asked as."""

    scheme: str
    host: str
    port: int
    path: str
    address: str


def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a host, as the machine's own resolver gives them.

    Raises:
        OSError: it has none, or they are not known in time.
    """
    found: Future[list[str]] = Future()

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.set_result([str(entry[4][0]) for entry in entries])
        except (OSError, ValueError) as error:
            found.set_exception(error)

    # The library's call takes no deadline. One that is late is left to end by itself; nobody waits for it.
    threading.Thread(target=look_up, name="resolver", daemon=True).start()
    return found.result(RESOLVE_WITHIN_S)


def target_of(url: str, allowed: Iterable[Network] = (), resolver: Resolver = resolve) -> Target:
    """Where a message to `url` goes, if it may.

    Raises:
        WebhookAddressError: it is malformed, cannot be looked up, or leads into a network that is not allowed.
    """
    scheme, host, port, path = _parts_of(url)
    allowed = tuple(allowed)
    try:
        addresses = [_plain(text) for text in resolver(host, port)]
    except (OSError, UnicodeError, ValueError) as error:
        raise WebhookAddressError("The host of the address is not known.") from error
    if not addresses:
        raise WebhookAddressError("The host of the address is not known.")
    inside = [any(address in network for network in allowed) for address in addresses]
    if not all(known or _is_public(address) for known, address in zip(inside, addresses, strict=True)):
        # Not which: that would tell an outsider what is in this network.
        raise WebhookAddressError("The address does not lead to the public internet.")
    if scheme == "http" and not all(inside):
        raise WebhookAddressError("The address must begin with https.")
    return Target(scheme, host, port, path, str(addresses[0]))


def _parts_of(url: str) -> tuple[str, str, int, str]:
    if len(url) > MAX_WEBHOOK_URL_CHARS or not url.isascii() or any(ord(character) <= 32 for character in url):
        raise WebhookAddressError("The address is too long, or has characters that addresses do not have.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebhookAddressError("The address is malformed.") from error
    if parts.scheme not in _PORTS:
        raise WebhookAddressError("The address must begin with https.")
    if not parts.hostname or port == 0:
        raise WebhookAddressError("The address names no host.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise WebhookAddressError("The address must have no user name, password or fragment.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path


def _plain(text: str) -> Address:
    """An address as the network sees it: an IPv4 one in IPv6 clothes is an IPv4 one."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        for network, shift in _EMBEDDED:
            if address in network:
                return _is_public(ipaddress.IPv4Address((int(address) >> shift) & 0xFFFF_FFFF))
        if any(address in network for network in _NEVER):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
