"""A vendor's JavaScript as one codec among others, for single frames: the command line, vectors, a try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from telemetry.errors import DecodeError, DecodeTimeout
from telemetry.plugin import Field, Fields

from .calls import Call, Outcome
from .workers import JsWorkers

DEFAULT_PORT = 1  # for a downlink whose encoder names no port, as v2 and v3 encoders cannot


class JavaScriptCodec:
    """Satisfies `telemetry.plugin.Codec`. Batches go to `JsWorkers.run` directly.

    `version` is the content's SHA-256, shortened to 16 digits. `variables` are a device's, as ChirpStack has
    them.
    """

    def __init__(
        self,
        id: str,
        source: str,
        workers: JsWorkers,
        *,
        fresh: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._id = id
        self._key = workers.add(source, fresh=fresh)
        self._workers = workers
        self._variables = dict(variables or {})

    @property
    def id(self) -> str:
        return self._id

    @property
    def version(self) -> str:
        return self._key[:16]

    def decode(self, f_port: int, payload: bytes) -> Fields:
        """Fields of one frame, as if received in 1970; `try_uplink` takes a time.

        Raises:
            DecodeError: the codec refused the frame or failed; `DecodeTimeout` when a retry may help.
        """
        return cast(Fields, self._checked(self.try_uplink(f_port, payload)).data or {})

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        """The downlink (port and payload) that the vendor's encoder makes of `fields`.

        It is the inverse of the codec's `decodeDownlink`: no vendor ships an encoder of uplinks.

        Raises:
            DecodeError: there is no encoder, or it refused or failed.
        """
        call = Call(self._key, "encode_downlink", variables=self._variables, data=dict(fields))
        frame = self._checked(self._workers.run([call])[0]).data
        return frame.get("fPort", DEFAULT_PORT), bytes(frame["bytes"])

    def try_uplink(self, f_port: int, payload: bytes, recv_time_us: int = 0) -> Outcome:
        """All that came of one frame: fields or errors, warnings, console, time used; raises nothing."""
        call = Call(self._key, "decode_uplink", f_port, payload, recv_time_us, self._variables)
        return self._workers.run([call])[0]

    def _checked(self, outcome: Outcome) -> Outcome:
        if not outcome.errors:
            return outcome
        kind = DecodeTimeout if outcome.retryable else DecodeError
        raise kind(f"{self._id}: {'; '.join(outcome.errors)}")
