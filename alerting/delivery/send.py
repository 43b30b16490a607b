"""One HTTP request to one endpoint, under the guard's rules, and what came back."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Self

import httpx

from telemetry.errors import DeliveryError, SettingsError, UsageError

from .guard import Address, Admitted, admit
from .schedule import Answer
from .settings import DeliverySettings

SNIPPET = 1024  # bytes of a response kept for whoever looks for the reason
_SNIPPET_TIME = 2.0  # the verdict is in the status line; its body is not worth waiting for
_CONNECT_TIME = 5.0  # for an address that has alternatives


class Sender:
    """Sends POST requests, each over a fresh connection: a kept one may have been verified for another name.

    Use as an asynchronous context manager. Proxies and netrc of the environment are ignored, redirects are
    not followed, cookies are not kept.
    """

    def __init__(self, settings: DeliverySettings) -> None:
        """Raises SettingsError when the file of certificate authorities cannot be used."""
        self._timeout = settings.webhook_timeout
        self._allow = settings.webhook_allow
        self._transport = httpx.AsyncHTTPTransport(
            verify=_tls(settings.webhook_ca_file),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST `body`; whatever goes wrong on the way becomes the answer's `error`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(await admit(url, self._allow), body, headers)
        except TimeoutError:
            return Answer(error=f"no answer within {self._timeout:g} s")
        except (DeliveryError, UsageError) as error:
            return Answer(error=str(error))
        except (httpx.TransportError, httpx.InvalidURL, OSError) as error:
            return Answer(error=f"{type(error).__name__}: {error}")

    async def _post(self, to: Admitted, body: bytes, headers: Mapping[str, str]) -> Answer:
        host = to.url.raw_host.decode("ascii")
        headers = {
            "host": to.url.netloc.decode("ascii"),
            "user-agent": "Quantrac",
            "accept-encoding": "identity",
            **headers,
        }
        response = await self._first(to.addresses, to.url, host, headers, body)
        try:
            text = await _snippet(response)
        finally:
            await response.aclose()
        return Answer(
            status=response.status_code,
            text=text,
            retry_after=response.headers.get("retry-after"),
            control=response.headers.get("webhook-delivery"),
        )

    async def _first(
        self, addresses: Sequence[Address], url: httpx.URL, host: str, headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        # The address is the one that was checked; the name stays in Host and in the certificate's check:
        # https://www.python-httpx.org/advanced/extensions/#sni_hostname
        *others, last = addresses
        for address in others:
            try:
                return await self._send(url, address, host, headers, body, min(_CONNECT_TIME, self._timeout))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._send(url, last, host, headers, body, self._timeout)

    async def _send(
        self,
        url: httpx.URL,
        address: Address,
        host: str,
        headers: Mapping[str, str],
        body: bytes,
        connect: float,
    ) -> httpx.Response:
        timeout = httpx.Timeout(self._timeout, connect=connect).as_dict()
        request = httpx.Request(
            "POST",
            url.copy_with(host=str(address)),
            headers=headers,
            content=body,
            extensions={"sni_hostname": host, "timeout": timeout},
        )
        return await self._transport.handle_async_request(request)


async def _snippet(response: httpx.Response) -> str:
    kept = bytearray()
    try:
        async with asyncio.timeout(_SNIPPET_TIME):
            async for part in response.aiter_raw():
                kept += part
                if len(kept) >= SNIPPET:
                    break
    except (TimeoutError, httpx.HTTPError):
        pass  # what has come by now is kept
    return bytes(kept[:SNIPPET]).decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _tls(ca_file: str) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(
                "QUANTRAC_WEBHOOK_CA_FILE",
                f"{ca_file} cannot be used ({error.strerror or error})",
                "Name a readable file of PEM certificates.",
            ) from None
    return context
