from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from alerting.delivery.guard import admit, check_url, is_special, resolve
from alerting.delivery.settings import DeliverySettings
from telemetry.errors import DeliveryError, ForbiddenAddress, SettingsError, UsageError
from telemetry.settings import load

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook?x=1",
        "https://example.org:8443/",
        "http://10.1.2.3/hook",
        "https://[2606:4700::1111]/",
        "https://cảnhbáo.vn/móc",
    ],
)
def test_good_urls(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "https://"),
        ("example.org/hook", "https://"),
        ("ftp://example.org/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("https:///hook", "no host"),
        ("https://user:pw@example.org/", "user name"),
        ("https://example.org@127.0.0.1/", "user name"),
        ("https://example.org/#part", "fragment"),
        ("https://example.org/#", "fragment"),
        ("https://example.org:0/", "port"),
        ("https://example.org:99999/", "port"),
        ("https://example.org:-1/", "port"),
        ("https://example.org:x/", "url:"),
        ("https://exam ple.org/", "white space"),
        ("https://example.org/\r\nHost: x", "white space"),
        ("https://example.org/\x00", "url:"),
        ("http://2130706433/", "unusual"),
        ("http://0x7f000001/", "unusual"),
        ("http://0x7f.1/", "unusual"),
        ("http://0177.0.0.1/", "IPv4"),
        ("http://127.1/", "unusual"),
        ("http://127.0.0.1./", "unusual"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("https://example.org/" + "x" * 2048, "at most 2048"),
    ],
)
def test_bad_urls_are_refused_with_the_reason(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_url(url)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
        *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1"),
        *("64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "5f00::1"),
        *("fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "::7f00:1"),
    ],
)
def test_special_addresses(address: str) -> None:
    assert is_special(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_public_addresses(address: str) -> None:
    assert not is_special(ip_address(address))


async def test_a_name_that_is_loopback_is_forbidden_unless_allowed() -> None:
    with pytest.raises(ForbiddenAddress, match="QUANTRAC_WEBHOOK_ALLOW"):
        await resolve("localhost", 80, ())
    assert ip_address("127.0.0.1") in await resolve("localhost", 80, LOOPBACK)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
async def test_the_resolver_sees_through_odd_spellings_too(host: str) -> None:
    with pytest.raises(ForbiddenAddress, match=r"127\.0\.0\.1"):
        await resolve(host, 80, ())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "169.254.169.254"]
)
async def test_literal_addresses_are_checked(host: str) -> None:
    with pytest.raises(ForbiddenAddress):
        await resolve(host, 443, ())


async def test_one_bad_address_among_good_ones_spoils_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 443, 0, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with pytest.raises(ForbiddenAddress, match="fd00::1"):
        await resolve("rebind.example.org", 443, ())
    assert len(await resolve("rebind.example.org", 443, (ip_network("fd00::/8"),))) == 2


async def test_a_name_nobody_knows() -> None:
    with pytest.raises(DeliveryError, match=r"nowhere\.invalid"):
        await resolve("nowhere.invalid", 443, ())


async def test_plain_http_is_for_allowed_networks() -> None:
    with pytest.raises(ForbiddenAddress, match="https only"):
        await admit("http://8.8.8.8/", ())
    assert (await admit("http://8.8.8.8/", (ip_network("8.8.8.8/32"),))).addresses == [ip_address("8.8.8.8")]
    assert (await admit("https://8.8.8.8/", ())).addresses == [ip_address("8.8.8.8")]
    assert (await admit("http://127.0.0.1:9/", LOOPBACK)).addresses == [ip_address("127.0.0.1")]


def test_the_setting_takes_networks_and_names_what_is_none() -> None:
    read = load(DeliverySettings, environ={"QUANTRAC_WEBHOOK_ALLOW": "10.20.0.0/16, fd00::/8,192.168.1.7"})
    assert read.webhook_allow == tuple(map(ip_network, ("10.20.0.0/16", "fd00::/8", "192.168.1.7/32")))
    assert load(DeliverySettings, environ={}).webhook_allow == ()
    for text, says in {
        "10.20.0.0/99": "10.20.0.0/99",
        "10.20.0.1/16": "write 10.20.0.0/16",
        "lan": "'lan'",
    }.items():
        with pytest.raises(SettingsError, match="QUANTRAC_WEBHOOK_ALLOW") as caught:
            load(DeliverySettings, environ={"QUANTRAC_WEBHOOK_ALLOW": text})
        assert says in str(caught.value)
