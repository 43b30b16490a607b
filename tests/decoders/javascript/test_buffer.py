"""The part of Node's Buffer that codecs use; expectations are Node's answers."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Run


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("Buffer.from(bytes).readUInt16BE(0)", 0x01FE),
        ("Buffer.from(bytes).readUInt16LE(0)", 0xFE01),
        ("Buffer.from(bytes).readInt16LE(0)", -511),
        ("Buffer.from(bytes).readInt8(1)", -2),
        ("Buffer.from(bytes).readUint8(1)", 254),
        ("Buffer.from('ffffffff', 'hex').readUInt32LE()", 0xFFFFFFFF),
        ("Buffer.from('fffffffe', 'hex').readInt32BE()", -2),
        ("Buffer.from('0000c03f', 'hex').readFloatLE(0)", 1.5),
        ("Buffer.from('3ff8000000000000', 'hex').readDoubleBE(0)", 1.5),
        ("Buffer.from('010203', 'hex').readUIntBE(0, 3)", 0x010203),
        ("Buffer.from('fdffff', 'hex').readIntLE(0, 3)", -3),
        ("Buffer.from('00ff00ff00ff00ff', 'hex').readBigUInt64BE().toString()", "71777214294589695"),
        ("Buffer.from('AQID/w==', 'base64').toString('hex')", "010203ff"),
        ("Buffer.from('AQID_w', 'base64').toString('hex')", "010203ff"),
        ("Buffer.from([1, 2, 3, 255]).toString('base64')", "AQID/w=="),
        ("Buffer.from([1, 2]).toString('base64')", "AQI="),
        ("Buffer.from('0102zz03', 'hex').length", 2),
        ("Buffer.from('Hà Nội 🌧').toString('hex')", "48c3a0204ee1bb996920f09f8ca7"),
        ("Buffer.from('48c3a0204ee1bb99', 'hex').toString()", "Hà Nộ"),
        ("Buffer.from([0x41, 0xff, 0x42]).toString('utf8')", "A\ufffdB"),
        ("Buffer.from([0xc1, 0x41]).toString('ascii')", "AA"),
        ("Buffer.from([0xe9]).toString('latin1')", "é"),
        ("Buffer.from([1, 2, 3, 4]).slice(1, 3).toString('hex')", "0203"),
        ("Buffer.from([1, 2, 3, 4]).slice(-2).readUInt16BE(0)", 0x0304),
        ("Buffer.from([1, 2, 3, 4]).toString('hex', 1, 2)", "02"),
        ("Buffer.concat([Buffer.from([1]), Buffer.from([2, 3])])", [1, 2, 3]),
        ("Buffer.alloc(3, 7)", [7, 7, 7]),
        ("Buffer.isBuffer(Buffer.alloc(1)) && !Buffer.isBuffer([])", True),
        ("Buffer.from([1, 2]).equals(Buffer.from([1, 2]))", True),
        ("new Buffer('0a0b', 'hex')[1]", 11),
        ("Buffer.byteLength('ộ')", 3),
        ("(b => (b.writeInt16BE(-2, 1), b.writeUInt8(9, 0), b))(Buffer.alloc(3))", [9, 255, 254]),
        ("(b => (b.writeUIntLE(0x010203, 0, 3), b.toString('hex')))(Buffer.alloc(3))", "030201"),
        ("atob('AQI=').charCodeAt(1)", 2),
        ("btoa('\\x01\\x02')", "AQI="),
    ],
)
def test_buffer(run: Run, expression: str, value: Any) -> None:
    # The comment keeps the name in sight where only atob and btoa are used.
    source = f"/* Buffer */ function decodeUplink({{bytes}}) {{ return {{ data: {{ v: {expression} }} }}; }}"
    outcome = run(source, payload=b"\x01\xfe")
    assert outcome.errors == []
    assert outcome.data == {"v": value}


@pytest.mark.parametrize(
    "expression", ["readUInt16LE(1)", "readUIntBE(0, 3)", "readFloatBE(0)", "readInt8(-1)"]
)
def test_reading_outside_throws(run: Run, expression: str) -> None:
    outcome = run(
        f"function decodeUplink({{bytes}}) {{ Buffer.from(bytes).{expression}; return {{data: {{}}}}; }}"
    )
    assert outcome.failure == "threw"
    assert "RangeError" in outcome.errors[0]
