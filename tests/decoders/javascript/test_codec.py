"""A vendor's JavaScript behind the interface that every codec has."""

from __future__ import annotations

import pytest

from decoders.javascript.codec import JavaScriptCodec
from decoders.javascript.workers import JsWorkers
from telemetry.errors import DecodeError, DecodeTimeout
from telemetry.plugin import Codec

SOURCE = """
function decodeUplink({bytes, fPort, variables}) {
  if (bytes.length < 2) return {errors: ['frame too short']};
  return {data: {level: bytes[0] * 256 + bytes[1], port: fPort, site: variables.site}};
}
function encodeDownlink({data}) { return {bytes: [data.interval >> 8, data.interval & 255], fPort: 85}; }
"""


def test_it_is_a_codec(workers: JsWorkers) -> None:
    codec = JavaScriptCodec("acme-level", SOURCE, workers, variables={"site": "Cẩm Lệ"})
    assert isinstance(codec, Codec)
    assert codec.id == "acme-level"
    assert codec.version == workers.add(SOURCE)[:16]
    assert codec.decode(2, b"\x01\x02") == {"level": 258, "port": 2, "site": "Cẩm Lệ"}
    assert codec.encode({"interval": 300}) == (85, b"\x01\x2c")
    assert codec.try_uplink(2, b"").errors == ["frame too short"]


def test_refusal_failure_and_time_out_are_errors(workers: JsWorkers) -> None:
    codec = JavaScriptCodec("acme-level", SOURCE, workers)
    with pytest.raises(DecodeError, match="acme-level: frame too short"):
        codec.decode(1, b"\x01")
    with pytest.raises(DecodeError, match="no function encodeDownlink"):
        JavaScriptCodec("none", "function Decode() { return {}; }", workers).encode({})
    with pytest.raises(DecodeTimeout, match="its time was up"):
        JavaScriptCodec("loop", "function Decode() { while (true); }", workers).decode(1, b"")


def test_an_encoder_without_a_port_and_a_frame_without_data(workers: JsWorkers) -> None:
    source = "function Encoder() { return [1]; } function decodeUplink() { return {warnings: ['idle']}; }"
    codec = JavaScriptCodec("old", source, workers)
    assert codec.encode({}) == (1, b"\x01")
    assert codec.decode(1, b"") == {}
