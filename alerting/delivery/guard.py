"""Where webhooks may go: no subscriber's URL makes us talk to the inside of our own network (SSRF).

A host name is looked up once, every address it has is checked, and the connection goes to a checked address,
so a name that changes its mind between check and connection gains nothing. Plain http is for the networks of
``QUANTRAC_WEBHOOK_ALLOW`` only: on its way through the internet an alert can be read and changed.

Source: https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

import httpx

from telemetry.errors import DeliveryError, ForbiddenAddress, UsageError

from .settings import Network

Address = IPv4Address | IPv6Address

MAX_URL = 2048
SETTING = "QUANTRAC_WEBHOOK_ALLOW"

# https://www.iana.org/assignments/iana-ipv4-special-registry, multicast and class E.
_SPECIAL_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# All of global unicast IPv6 lies in 2000::/3; loopback, link-local, unique local, multicast, IPv4-mapped and
# NAT64 addresses lie outside. What is special inside it: protocol assignments with Teredo, documentation, and
# 6to4, which smuggles an IPv4 address (https://www.iana.org/assignments/iana-ipv6-special-registry).
_GLOBAL_6 = IPv6Network("2000::/3")
_SPECIAL_6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))

_LAST_LABEL_NUMERIC = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$", re.IGNORECASE)

# Name look-ups block a thread for as long as a name server likes: never the loop's few default ones.
_LOOKUPS = ThreadPoolExecutor(max_workers=64, thread_name_prefix="webhook-lookup")


class Admitted(NamedTuple):
    """A URL that may be called, and the addresses to call it at."""

    url: httpx.URL
    addresses: list[Address]


def check_url(url: str) -> None:
    """What can be said of an endpoint's URL without looking its host up.

    Raises:
        UsageError: names what is wrong and what to write.
    """
    _parsed(url)


async def resolve(host: str, port: int, allow: Sequence[Network]) -> list[Address]:
    """Every address of `host`, all of them checked, in the order to be tried.

    Raises:
        ForbiddenAddress: one of them is not public and in none of the `allow` networks.
        DeliveryError: the name has no address, or the look-up failed.
    """
    addresses = await _look_up(host, port)
    for address in addresses:
        if is_special(address) and not _within(address, allow):
            raise ForbiddenAddress(
                f"{host} is {address}, which is no public address; to allow it, add its network to {SETTING}"
            )
    return addresses


async def admit(url: str, allow: Sequence[Network]) -> Admitted:
    """Check `url` and everything behind its host name.

    Raises:
        UsageError: see `check_url`.
        ForbiddenAddress: see `resolve`; also plain http to a host outside the `allow` networks.
        DeliveryError: see `resolve`.
    """
    parsed = _parsed(url)
    host = parsed.raw_host.decode("ascii")
    addresses = await resolve(host, parsed.port or (443 if parsed.scheme == "https" else 80), allow)
    if parsed.scheme == "http" and not all(_within(address, allow) for address in addresses):
        raise ForbiddenAddress(
            f"{host} can be reached over https only; to allow plain http, add its network to {SETTING}"
        )
    return Admitted(parsed, addresses)


def is_special(address: Address) -> bool:
    """Whether an address is anything but a public unicast one."""
    if isinstance(address, IPv4Address):
        return _within(address, _SPECIAL_4)
    return address not in _GLOBAL_6 or _within(address, _SPECIAL_6)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _parsed(url: str) -> httpx.URL:
    if len(url) > MAX_URL:
        raise UsageError(f"url: {len(url)} characters; at most {MAX_URL} are allowed")
    if any(character.isspace() for character in url):
        raise UsageError("url: holds white space; write it as %20")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise UsageError(f"url: {error}") from None
    if parsed.scheme not in ("http", "https"):
        raise UsageError("url: must begin with https:// (or http:// within an allowed private network)")
    if not parsed.host:
        raise UsageError("url: names no host")
    if parsed.userinfo or "@" in parsed.netloc.decode("ascii", "replace"):
        raise UsageError("url: must not hold a user name or password; requests are signed instead")
    if "#" in url:
        raise UsageError("url: must not have a fragment (#…), which is never sent")
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise UsageError(f"url: port {parsed.port} is not between 1 and 65535")
    _check_host(parsed.raw_host.decode("ascii"))
    return parsed


def _check_host(host: str) -> None:
    if "%" in host:
        raise UsageError("url: an address with a zone (%…) cannot be reached from elsewhere")
    if _LAST_LABEL_NUMERIC.search(host):
        try:
            ip_address(host)
        except ValueError:
            raise UsageError(
                f"url: {host} is an unusual way to write an IPv4 address; write it as 198.51.100.7"
            ) from None


async def _look_up(host: str, port: int) -> list[Address]:
    try:
        return [ip_address(host)]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(
            _LOOKUPS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
    except (OSError, UnicodeError) as error:
        raise DeliveryError(f"the name {host} cannot be looked up ({error})") from None
    return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))
