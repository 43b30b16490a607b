// The part of Node's Buffer that codecs use, for codecs that name it: bytes from and to text, numbers of either
// byte order, views. A Buffer is a Uint8Array; as a result it becomes an array of numbers.
(function () {
  "use strict";

  const HEX = "0123456789abcdef";
  const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

  const encoders = {
    hex(text) {
      const bytes = [];
      // As in Node, what follows the first pair that is not hexadecimal is left out.
      for (let i = 0; i + 1 < text.length; i += 2) {
        const pair = text.slice(i, i + 2);
        if (!/^[0-9a-f]{2}$/i.test(pair)) break;
        bytes.push(parseInt(pair, 16));
      }
      return bytes;
    },
    base64(text) {
      const bytes = [];
      let bits = 0;
      let held = 0;
      for (const char of text.replace(/-/g, "+").replace(/_/g, "/")) {
        if (char === "=") break;
        const value = BASE64.indexOf(char);
        if (value < 0) continue;
        held = ((held << 6) | value) & 0xffff;
        bits += 6;
        if (bits >= 8) bytes.push((held >> (bits -= 8)) & 0xff);
      }
      return bytes;
    },
    latin1: (text) => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i) & 0xff),
    utf8(text) {
      const bytes = [];
      for (const char of text) {
        let code = char.codePointAt(0);
        if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
        if (code < 0x80) bytes.push(code);
        else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
        else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
        else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
      }
      return bytes;
    },
    utf16le: (text) => Array.from({ length: text.length * 2 }, (_, i) => (text.charCodeAt(i >> 1) >> (8 * (i & 1))) & 0xff),
  };

  const decoders = {
    hex: (bytes) => map(bytes, (byte) => HEX[byte >> 4] + HEX[byte & 15]),
    base64(bytes) {
      let text = "";
      for (let i = 0; i < bytes.length; i += 3) {
        const left = bytes.length - i;
        const bits = (bytes[i] << 16) | ((left > 1 ? bytes[i + 1] : 0) << 8) | (left > 2 ? bytes[i + 2] : 0);
        text += BASE64[bits >> 18] + BASE64[(bits >> 12) & 63];
        text += (left > 1 ? BASE64[(bits >> 6) & 63] : "=") + (left > 2 ? BASE64[bits & 63] : "=");
      }
      return text;
    },
    ascii: (bytes) => map(bytes, (byte) => String.fromCharCode(byte & 0x7f)),
    latin1: (bytes) => map(bytes, (byte) => String.fromCharCode(byte)),
    utf8(bytes) {
      let text = "";
      for (let i = 0; i < bytes.length; ) {
        const [code, size] = codePoint(bytes, i);
        text += String.fromCodePoint(code);
        i += size;
      }
      return text;
    },
    utf16le(bytes) {
      let text = "";
      for (let i = 0; i + 1 < bytes.length; i += 2) text += String.fromCharCode(bytes[i] | (bytes[i + 1] << 8));
      return text;
    },
  };
  encoders.ascii = encoders.latin1;
  encoders.base64url = encoders.base64;
  decoders.base64url = (bytes) => decoders.base64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  const OTHER_NAMES = { "utf-8": "utf8", binary: "latin1", ucs2: "utf16le", "utf-16le": "utf16le" };

  function coder(table, encoding = "utf8") {
    const name = String(encoding).toLowerCase();
    const found = table[OTHER_NAMES[name] ?? name];
    if (!found) throw new TypeError(`Unknown encoding: ${encoding}`);
    return found;
  }

  function map(bytes, shown) {
    let text = "";
    for (let i = 0; i < bytes.length; i++) text += shown(bytes[i]);
    return text;
  }

  // [code point, bytes it took]; a byte that fits nowhere is U+FFFD.
  function codePoint(bytes, i) {
    const first = bytes[i];
    if (first < 0x80) return [first, 1];
    const size = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 1;
    let code = first & (0xff >> (size + 1));
    for (let j = 1; j < size; j++) {
      const next = i + j < bytes.length ? bytes[i + j] : 0;
      if ((next & 0xc0) !== 0x80) return [0xfffd, j];
      code = (code << 6) | (next & 63);
    }
    const known = size > 1 && code >= [0, 0, 0x80, 0x800, 0x10000][size] && code < 0x110000;
    return [known && (code < 0xd800 || code > 0xdfff) ? code : 0xfffd, size];
  }

  class Buffer extends Uint8Array {
    constructor(value, second, third) {
      if (typeof value === "string") super(coder(encoders, second)(value));
      else super(value, second, third);
    }

    static from(value, second, third) {
      if (typeof value === "string" || value instanceof ArrayBuffer) return new Buffer(value, second, third);
      return new Buffer(value && value.type === "Buffer" ? value.data : Array.from(value, (byte) => byte & 0xff));
    }
    static alloc(size, fill = 0, encoding) {
      const buffer = new Buffer(size);
      return typeof fill === "number" ? buffer.fill(fill) : repeated(Buffer.from(fill, encoding), buffer);
    }
    static allocUnsafe(size) {
      return new Buffer(size);
    }
    static isBuffer(value) {
      return value instanceof Buffer;
    }
    static byteLength(value, encoding) {
      return typeof value === "string" ? coder(encoders, encoding)(value).length : value.byteLength;
    }
    static concat(list, length) {
      const bytes = [];
      for (const part of list) for (const byte of part) bytes.push(byte);
      return length === undefined ? new Buffer(bytes) : Buffer.from(bytes.slice(0, length));
    }

    toString(encoding, start = 0, end = this.length) {
      return coder(decoders, encoding)(this.subarray(start, end));
    }
    slice(start, end) {
      return this.subarray(start, end);
    }
    equals(other) {
      return this.length === other.length && this.every((byte, i) => byte === other[i]);
    }
    copy(target, targetStart = 0, start = 0, end = this.length) {
      const part = this.subarray(start, Math.min(end, start + target.length - targetStart));
      target.set(part, targetStart);
      return part.length;
    }
    write(text, offset = 0, length = this.length - offset, encoding = "utf8") {
      if (typeof offset === "string") return this.write(text, 0, this.length, offset);
      return Buffer.from(text, encoding).copy(this, offset, 0, length);
    }
    readUIntBE(offset, size) {
      let value = 0;
      for (let i = 0; i < size; i++) value = value * 256 + this.readUInt8(offset + i);
      return value;
    }
    readUIntLE(offset, size) {
      let value = 0;
      for (let i = size - 1; i >= 0; i--) value = value * 256 + this.readUInt8(offset + i);
      return value;
    }
    readIntBE(offset, size) {
      return signed(this.readUIntBE(offset, size), size);
    }
    readIntLE(offset, size) {
      return signed(this.readUIntLE(offset, size), size);
    }
    writeUIntBE(value, offset, size) {
      for (let i = size - 1; i >= 0; i--, value = Math.floor(value / 256)) this.writeUInt8(value & 0xff, offset + i);
      return offset + size;
    }
    writeUIntLE(value, offset, size) {
      for (let i = 0; i < size; i++, value = Math.floor(value / 256)) this.writeUInt8(value & 0xff, offset + i);
      return offset + size;
    }
  }

  const add = (name, method) => Object.defineProperty(Buffer.prototype, name, { value: method, writable: true, configurable: true });
  const signed = (value, size) => (value >= 2 ** (8 * size - 1) ? value - 2 ** (8 * size) : value);

  function repeated(pattern, target) {
    for (let i = 0; pattern.length && i < target.length; i++) target[i] = pattern[i % pattern.length];
    return target;
  }

  add("writeIntBE", Buffer.prototype.writeUIntBE);
  add("writeIntLE", Buffer.prototype.writeUIntLE);

  // readUInt16LE, writeFloatBE and their kind, on DataView, which throws a RangeError outside the bytes.
  const kinds = { Uint8: 1, Int8: 1, Uint16: 2, Int16: 2, Uint32: 4, Int32: 4, Float32: 4, Float64: 8, BigInt64: 8, BigUint64: 8 };
  const inNode = { Uint8: "UInt8", Uint16: "UInt16", Uint32: "UInt32", Float32: "Float", Float64: "Double", BigUint64: "BigUInt64" };
  for (const kind of Object.keys(kinds)) {
    const get = DataView.prototype[`get${kind}`];
    const set = DataView.prototype[`set${kind}`];
    const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (const order of kinds[kind] === 1 ? [""] : ["LE", "BE"]) {
      const little = order === "LE";
      const read = function (offset = 0) {
        return get.call(view(this), offset, little);
      };
      const write = function (value, offset = 0) {
        set.call(view(this), offset, value, little);
        return offset + kinds[kind];
      };
      for (const name of new Set([inNode[kind] ?? kind, kind.startsWith("Float") ? inNode[kind] : kind])) {
        add(`read${name}${order}`, read);
        add(`write${name}${order}`, write);
      }
    }
  }

  Object.defineProperty(globalThis, "Buffer", { value: Buffer, writable: true, configurable: true });
})();
