// Runs first in every codec's context and evaluates to a function that hands out the doors to it: `call`, `load`,
// `remember` and `clean`. What it keeps in its closure no codec can reach. docs/reference/javascript-codecs.md
// says what a codec may rely on.
(function () {
  "use strict";

  const MAX_OUTPUT = 256 * 1024; // UTF-16 units of JSON
  const MAX_LINES = 50; // of console output, each cut after MAX_LINE units
  const MAX_LINE = 500;
  const MAX_MESSAGES = 50; // errors or warnings, cut likewise
  const LINES_BEFORE = 1000; // empty ones in front of a codec, to tell its lines from ours in a stack trace

  // Taken before any codec runs, so that one that replaces them does not change what we do.
  const global = globalThis;
  const { parse, stringify } = JSON;
  const { isArray, from: arrayFrom } = Array;
  const { ownKeys, getOwnPropertyDescriptor, getPrototypeOf, construct, deleteProperty, isExtensible } = Reflect;
  const { defineProperty } = Object;
  const { isInteger } = Number;
  const { imul } = Math;
  const [RealDate, AnyError, Internal, Range, Syntax, Bytes, text, number] =
    [Date, Error, InternalError, RangeError, SyntaxError, Uint8Array, String, Number];
  const globalEval = eval;
  const bound = (method) => Function.prototype.call.bind(method);
  const codeAt = bound(String.prototype.charCodeAt);
  const split = bound(String.prototype.split);
  const slice = bound(String.prototype.slice);
  const match = bound(String.prototype.match);

  function hide(object, properties) {
    for (const name of ownKeys(properties)) {
      defineProperty(object, name, { value: properties[name], writable: true, enumerable: false, configurable: true });
    }
  }

  // Nothing that waits without using time, differs from run to run, or outlives the call.
  for (const name of [
    "Atomics", "SharedArrayBuffer", "WeakRef", "FinalizationRegistry", "performance", "queueMicrotask",
  ]) delete global[name];

  // ---- A clock that stands still, and chance that repeats itself ------------------------------------------------
  let now = 0; // ms since 1970
  function PinnedDate(...parts) {
    if (new.target === undefined) return text(new RealDate(now));
    return construct(RealDate, parts.length ? parts : [now], new.target);
  }
  hide(PinnedDate, { now: () => now, parse: RealDate.parse, UTC: RealDate.UTC });
  defineProperty(PinnedDate, "name", { value: "Date" });
  defineProperty(PinnedDate, "length", { value: 7 });
  defineProperty(PinnedDate, "prototype", { value: RealDate.prototype, writable: false });
  hide(RealDate.prototype, { constructor: PinnedDate });
  hide(global, { Date: PinnedDate });

  let frame = []; // port and input of the call
  let state = null;
  function random() {
    if (state === null) {
      // FNV-1a over the frame seeds mulberry32.
      const seed = `${frame[0]} ${frame[1]}`;
      state = 0x811c9dc5;
      for (let i = 0; i < seed.length; i++) state = imul(state ^ codeAt(seed, i), 0x01000193);
    }
    state = (state + 0x6d2b79f5) | 0;
    let mixed = imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  }
  hide(Math, { random });

  // ---- What JSON has no word for --------------------------------------------------------------------------------
  const MAX_SAFE = 9007199254740991n;
  hide(BigInt.prototype, {
    toJSON() {
      return this <= MAX_SAFE && this >= -MAX_SAFE ? number(this) : text(this);
    },
  });
  hide(getPrototypeOf(Bytes.prototype), {
    toJSON() {
      return arrayFrom(this);
    },
  });

  // ---- Console --------------------------------------------------------------------------------------------------
  let lines = [];
  function log(...values) {
    if (lines.length >= MAX_LINES) return;
    let line = "";
    for (let i = 0; i < values.length; i++) line += (i ? " " : "") + shown(values[i]);
    lines[lines.length] = slice(line, 0, MAX_LINE);
  }
  hide(global, { console: { log, info: log, warn: log, error: log, debug: log, trace: log } });

  function shown(value) {
    if (typeof value === "string") return value;
    try {
      if (value instanceof AnyError) return text(value);
      return (typeof value === "object" ? stringify(value) : undefined) ?? text(value);
    } catch {
      return "[unprintable]";
    }
  }

  // ---- Entry points: for each function of a call, those that may serve it, best first -----------------------------
  const entries = {
    decode_uplink: {
      decodeUplink: (f, fPort, bytes, variables) =>
        whole(f(input({ bytes, fPort, recvTime: new RealDate(now), variables })), "decodeUplink"),
      Decode: (f, fPort, bytes, variables) => ({ data: record(f(fPort, bytes, variables), "Decode") }),
      Decoder: (f, fPort, bytes, variables) => ({ data: record(f(bytes, fPort, variables), "Decoder") }),
    },
    decode_downlink: {
      decodeDownlink: (f, fPort, bytes, variables) => whole(f(input({ bytes, fPort, variables })), "decodeDownlink"),
    },
    encode_downlink: {
      encodeDownlink: (f, fPort, data, variables) => encoded(f(input({ data, fPort, variables })), "encodeDownlink"),
      Encode: (f, fPort, data, variables) => ({ data: { bytes: bytesOf(f(fPort, data, variables), "Encode") } }),
      Encoder: (f, fPort, data, variables) => ({ data: { bytes: bytesOf(f(data, fPort, variables), "Encoder") } }),
    },
    normalize_uplink: {
      normalizeUplink: (f, fPort, data, variables) => whole(f(input({ data, fPort, variables })), "normalizeUplink", true),
    },
  };

  let more = ""; // JSON of what else the caller wants in the input object
  const input = (members) => (more ? { ...parse(more), ...members } : members);

  class Fault {
    constructor(failure, message) {
      this.failure = failure;
      this.message = message;
    }
  }
  const bad = (message) => new Fault("output", message);

  // {data, errors, warnings}, as decodeUplink, decodeDownlink and normalizeUplink return it.
  function whole(result, name, many = false) {
    const answer = messages(record(result, name), name, "data");
    const { data } = result;
    if (many && isArray(data)) for (let i = 0; i < data.length; i++) record(data[i], `${name}'s data[${i}]`, "holds");
    else if (data !== undefined && data !== null) record(data, `${name}'s data`, "is");
    answer.data = data;
    return answer;
  }

  // {bytes, fPort, errors, warnings}
  function encoded(result, name) {
    const answer = messages(record(result, name), name, "bytes");
    const { bytes, fPort } = result;
    if (answer.errors && !bytes) return answer;
    answer.data = { bytes: bytesOf(bytes, `${name}'s bytes`, "is") };
    if (fPort === undefined || fPort === null) return answer;
    if (!isInteger(fPort) || fPort < 0 || fPort > 255) throw bad(`${name} gave the fPort ${shown(fPort)}, not 0 to 255`);
    answer.data.fPort = fPort;
    return answer;
  }

  function messages(result, name, main) {
    const errors = list(result.errors);
    const warnings = list(result.warnings);
    if (!errors && !warnings && result[main] === undefined) {
      throw bad(`${name} returned an object without ${main}, errors or warnings`);
    }
    return { errors, warnings };
  }

  function list(value) {
    if (!value) return undefined;
    if (!isArray(value)) return [slice(shown(value), 0, MAX_LINE)];
    const found = [];
    for (let i = 0; i < value.length && i < MAX_MESSAGES; i++) found[i] = slice(shown(value[i]), 0, MAX_LINE);
    return found.length ? found : undefined;
  }

  function bytesOf(value, name, verb = "returned") {
    if (!isArray(value) && !(value instanceof Bytes)) {
      throw bad(`${name} ${verb} ${kindOf(value)} where an array of bytes is meant`);
    }
    const bytes = [];
    for (let i = 0; i < value.length; i++) {
      const byte = value[i];
      if (!isInteger(byte) || byte < 0 || byte > 255) throw bad(`${name}: [${i}] is ${shown(byte)}, not 0 to 255`);
      bytes[i] = byte;
    }
    return bytes;
  }

  function record(value, name, verb = "returned") {
    if (value === null || typeof value !== "object" || isArray(value) || typeof value.then === "function") {
      throw bad(`${name} ${verb} ${kindOf(value)} where an object is meant`);
    }
    return value;
  }

  function kindOf(value) {
    if (value === null) return "null";
    if (isArray(value)) return "an array";
    if (typeof value !== "object") return value === undefined ? "nothing" : `a ${typeof value}`;
    return typeof value.then === "function" ? "a promise (none is waited for)" : "an object";
  }

  // ---- One call ---------------------------------------------------------------------------------------------------
  const before = "\n".repeat(LINES_BEFORE);
  let source = "";
  let shared = [];
  let factories = {};
  let littered = false;

  // `names`: variables of the codec's top level to be members of the global object too, with spaces between.
  function load(given, names) {
    source = given;
    shared = names ? split(names, " ") : [];
  }

  // The source becomes the body of a function that is run for every call: what a codec keeps in variables of its
  // own is new each time, as on the network servers.
  function factoryOf(kind) {
    let ending = "undefined";
    for (const name of ownKeys(entries[kind]).reverse()) {
      const after = name === "decodeUplink" ? ",typeof normalizeUplink==='function'?normalizeUplink:null" : "";
      ending = `typeof ${name}==='function'?['${name}',${name}${after}]:${ending}`;
    }
    let sharing = "";
    for (const name of shared) sharing += `if(typeof ${name}!=='undefined')globalThis.${name}=${name};`;
    try {
      return (factories[kind] = globalEval(`(function(){${before}${source}\n;${sharing}return ${ending}})`));
    } catch (error) {
      throw error instanceof Syntax ? new Fault("source", described(error)) : error;
    }
  }

  function call(kind, fPort, time, json, variables, others) {
    now = time;
    frame = [fPort, json];
    state = null;
    more = others;
    if (lines.length) lines = [];
    let answer;
    try {
      const found = (factories[kind] ?? factoryOf(kind))();
      const entry = isArray(found) ? entries[kind][found[0]] : undefined;
      if (!entry) throw new Fault("missing", `the codec has no function ${ownKeys(entries[kind]).join(" or ")}`);
      const result = entry(found[1], fPort, parse(json), variables ? parse(variables) : {});
      const normalize = found[2];
      if (normalize && result.data && !result.errors) {
        answer = withNormalized(result, normalize, fPort, variables);
      } else {
        if (lines.length) result.console = lines;
        answer = checked(stringify(result));
      }
    } catch (error) {
      const answered = failed(error);
      if (lines.length) answered.console = lines;
      answer = stringify(answered);
    }
    // What was assigned without being declared lands here.
    for (const name in global) littered = !deleteProperty(global, name) || name in global || littered;
    return answer;
  }

  // A decoded frame, and as JSON in JSON what the codec's normalizeUplink makes of its fields. Where that fails, and
  // whatever it does to them, they stay as they were.
  function withNormalized(result, normalize, fPort, variables) {
    const decoded = checked(stringify(result));
    let own;
    try {
      const { normalizeUplink } = entries.normalize_uplink;
      own = checked(stringify(normalizeUplink(normalize, fPort, result.data, variables ? parse(variables) : {})));
    } catch (error) {
      own = stringify(failed(error));
    }
    const said = lines.length ? `,"console":${stringify(lines)}` : "";
    return `{"normalized":${stringify(own)}${said}${decoded.length > 2 ? "," : ""}${slice(decoded, 1)}`;
  }

  function checked(answer) {
    if (answer.length > MAX_OUTPUT) throw bad(`a result of ${answer.length} characters; ${MAX_OUTPUT} are allowed`);
    return answer;
  }

  function failed(error) {
    let failure = "threw";
    let message = "what cannot be shown was thrown";
    try {
      if (error instanceof Fault) ({ failure, message } = error);
      else {
        if (error instanceof Range && error.message === "Maximum call stack size exceeded") failure = "stack";
        else if (error instanceof Internal && error.message === "out of memory") failure = "memory";
        else if (error instanceof TypeError && error.message === "circular reference") failure = "output";
        message = described(error);
      }
    } catch { /* the first message stands */ }
    return { failure, errors: [slice(message, 0, MAX_LINE)] };
  }

  function described(error) {
    if (!(error instanceof AnyError)) return `${kindOf(error)} was thrown: ${shown(error)}`;
    const found = typeof error.stack === "string" ? match(error.stack, /<input>:(\d+)/) : null;
    const line = found ? found[1] - LINES_BEFORE : 0;
    return text(error) + (line > 0 ? ` (line ${line})` : "");
  }

  // ---- Whether a codec changed what its next call would see -------------------------------------------------------
  // All objects that a program can reach, save what hangs on plain functions. Flat lists: this runs once a batch.
  let objects, sizes, holders, keys, values, accessors;

  function remember() {
    [objects, sizes, holders, keys, values, accessors] = [[], [], [], [], [], []];
    const seen = new Set();
    const queue = [global, getPrototypeOf(function* () {}), getPrototypeOf(async () => {})];
    for (const iterable of [[], "", new Map(), new Set()]) queue.push(getPrototypeOf(iterable[Symbol.iterator]()));
    for (let object = queue.pop(); object !== undefined; object = queue.pop()) {
      if (seen.has(object)) continue;
      seen.add(object);
      const own = ownKeys(object);
      if (typeof object === "function" && !own.includes("prototype")) continue;
      if (isExtensible(object)) {
        objects.push(object);
        sizes.push(own.length);
      }
      for (const key of own) {
        const { value, get, set } = getOwnPropertyDescriptor(object, key);
        if (get || set) accessors.push({ object, key, get, set });
        else if ((typeof value === "object" && value !== null) || typeof value === "function") {
          holders.push(object);
          keys.push(key);
          values.push(value);
          queue.push(value);
        }
      }
      if (getPrototypeOf(object)) queue.push(getPrototypeOf(object));
    }
  }

  function clean() {
    if (littered) return false;
    for (let i = 0, n = objects.length; i < n; i++) {
      if (ownKeys(objects[i]).length !== sizes[i] || !isExtensible(objects[i])) return false;
    }
    for (let i = 0, n = values.length; i < n; i++) if (holders[i][keys[i]] !== values[i]) return false;
    for (let i = 0, n = accessors.length; i < n; i++) {
      const { object, key, get, set } = accessors[i];
      const found = getOwnPropertyDescriptor(object, key);
      if (!found || found.get !== get || found.set !== set) return false;
    }
    return true;
  }

  const doors = { call, clean, remember, load };
  return (name) => doors[name];
})()
