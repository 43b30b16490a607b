"""What is asked of a codec and what comes back; the vocabulary of the pool and its worker processes."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

Function = Literal["decode_uplink", "encode_downlink", "decode_downlink", "normalize_uplink"]

Failure = Literal[
    "source",  # the file is no JavaScript the engine can parse
    "missing",  # the codec has no such function
    "threw",  # the codec threw
    "output",  # what it returned is not what its kind of function returns, or too large
    "timeout",  # it used up its time and was stopped
    "memory",  # it used up its memory
    "stack",  # it recursed too deeply
    "crash",  # its worker process died of it
    "quarantine",  # it hung, crashed or failed slowly lately and is left alone for a while
]
RETRYABLE: frozenset[str] = frozenset({"timeout", "crash", "quarantine"})

# A UTF-16 half without its other half, as JSON.stringify writes it.
_LONE_SURROGATE = re.compile(r"(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}")

SLOW_MICROS = 25_000  # a call that failed after so long counts like one that timed out


class Call(msgspec.Struct, array_like=True):
    """One call of one codec.

    `codec` is what `JsWorkers.add` returned. `payload` are the frame's bytes (decoding only), `recv_time_us`
    is when it was received (µs since 1970, UTC) and what the codec's clock shows. `variables` are the
    device's. `data` is what `encode_downlink` is to encode, or what `normalize_uplink` is to normalise.
    `more` are further members of the input object, which examples have and no network server sends.
    """

    codec: str
    function: Function
    f_port: int = 0
    payload: bytes = b""
    recv_time_us: int = 0
    variables: dict[str, Any] = {}
    data: Any = None
    more: dict[str, Any] = {}


class Outcome(msgspec.Struct, omit_defaults=True):
    """What became of a call.

    It went well when `errors` is empty. Then `data` is what the codec returned: for `decode_uplink` and
    `decode_downlink` a dict of fields (or None, with warnings only), for `normalize_uplink` a dict or a list
    of dicts, for `encode_downlink` ``{"bytes": [0..255, …]}`` with ``"fPort"`` when the codec gave one.
    `errors` are the codec's own; or, when `failure` is set, one sentence on why there is no result.
    `micros` is the wall-clock time of the call in µs. `retryable`: the same call may succeed later.
    `normalized` is the JSON of another outcome: what the codec's `normalizeUplink`, where it has one, made of
    the fields of `decode_uplink`; see `own_normalized`.
    """

    data: Any = None
    warnings: list[str] = []
    errors: list[str] = []
    console: list[str] = []
    failure: Failure | None = None
    micros: int = 0
    normalized: str | None = None

    @property
    def retryable(self) -> bool:
        return self.failure in RETRYABLE

    @property
    def slow_failure(self) -> bool:
        """Whether all of it, or what `normalizeUplink` did, failed after so long that others had to wait."""
        failed = self.failure or (self.normalized is not None and self.normalized.startswith('{"failure"'))
        return bool(failed) and self.micros >= SLOW_MICROS

    def own_normalized(self) -> Outcome | None:
        """What `normalizeUplink` gave; None where the codec has none, or was not asked.

        It is text of its own, so that one that cannot be read costs no field.
        """
        return None if self.normalized is None else read_outcome(well_formed(self.normalized))


_decode = msgspec.json.Decoder(Outcome).decode


def read_outcome(text: str) -> Outcome:
    """From the JSON that a worker sent; a failure where it cannot be read."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        return Outcome(failure="output", errors=[f"the result cannot be read: {error}"])


def well_formed(json: str) -> str:
    """With U+FFFD for every half of a surrogate pair."""
    return _LONE_SURROGATE.sub(r"\1\\ufffd", json) if "\\ud" in json else json
