// Readings as the chart wants them: columns on one time axis, gaps as gaps. Pure.

const FAIL = 4;
const SUSPECT = 3;
const MISSING = 9;
const NEIGHBOURS = 5;
const GAP_FACTOR = 3;
const WIDTHS = { "1h": 3600, "1d": 86_400 };

const _key = (reading) => `${reading.dev_eui}|${reading.channel}`;
/** The longest but one, so that one other gap nearby is not taken for the rule; the only one of one. */
const _usual = (pauses) => [...pauses].sort((a, b) => b - a)[Math.min(1, pauses.length - 1)] ?? 0;

/**
 * What `/series` answers, as readings. A bucket stands at its middle, with `min` and `max`. Where readings were
 * left out, gaps cannot be told from pauses any more: there those that the server found become readings that miss.
 */
export function readingsOf({ resolution, thinned, series }) {
  const middle = (WIDTHS[resolution] ?? 0) * 500;
  return series.flatMap((line) => line.time.flatMap((time, index) => {
    const value = line.value[index];
    const known = line.quality?.[index];
    if (resolution === "raw" && !thinned && known === null) return [];
    return [{
      dev_eui: line.dev_eui, channel: line.channel, time: new Date(Date.parse(time) + middle).toISOString(), value,
      quality: value === null ? MISSING : known ?? 1, min: line.min?.[index], max: line.max?.[index],
    }];
  }));
}

/** Adds readings (any order, repeats allowed) to `series`, a map of line key to Map(second → reading). */
export function add(series, readings) {
  for (const reading of readings) {
    if (!series.has(_key(reading))) series.set(_key(reading), new Map());
    series.get(_key(reading)).set(Date.parse(reading.time) / 1000, reading);
  }
}

/** Forgets what is older than `since` (seconds). */
export function forget(series, since) {
  for (const [key, line] of series) {
    for (const second of line.keys()) if (second < since) line.delete(second);
    if (!line.size) series.delete(key);
  }
}

/**
 * Seconds at which a line must break: where a pause is over three times the usual pause on both sides,
 * so that a change of the reporting interval is no gap.
 */
export function gaps(seconds) {
  const pauses = seconds.slice(1).map((second, index) => second - seconds[index]);
  const found = [];
  pauses.forEach((pause, index) => {
    const before = pauses.slice(Math.max(0, index - NEIGHBOURS), index);
    const after = pauses.slice(index + 1, index + 1 + NEIGHBOURS);
    const usual = Math.max(_usual(before), _usual(after));
    if (usual > 0 && pause > GAP_FACTOR * usual) found.push(seconds[index] + pause / 2);
  });
  return found;
}

function _line(readings, since) {
  const good = new Map();
  const seconds = [...readings.keys()].sort((a, b) => a - b);
  for (const second of seconds) {
    const { value, quality } = readings.get(second);
    if (quality !== FAIL) good.set(second, quality === MISSING ? null : value);
  }
  for (const second of gaps([...good.keys()])) if (second > since) good.set(second, null);
  return good;
}

function _doubtful(readings) {
  const points = new Map();
  for (const [second, { value, quality }] of readings) {
    if (quality === SUSPECT || quality === FAIL) points.set(second, value);
  }
  return points;
}

function _band(readings, edge) {
  return new Map([...readings].map(([second, reading]) => [second, reading[edge] ?? null]));
}

/**
 * `{keys, data, banded}`: `data` is `[seconds, ...one column a line, doubtful points]`, where `banded` then the
 * highest and the lowest of each line. In a column null breaks the line and undefined means that this line has
 * nothing at that second. Gaps are looked for after `since` (seconds).
 */
export function columns(series, since = -Infinity) {
  const keys = [...series.keys()].sort();
  const lines = keys.map((key) => _line(series.get(key), since));
  const banded = keys.some((key) => [...series.get(key).values()].some((reading) => Number.isFinite(reading.max)));
  const bands = banded ? keys.flatMap((key) => ["max", "min"].map((edge) => _band(series.get(key), edge))) : [];
  const doubtful = new Map();
  for (const key of keys) for (const [second, value] of _doubtful(series.get(key))) doubtful.set(second, value);
  const seconds = [...new Set([...lines, doubtful].flatMap((line) => [...line.keys()]))].sort((a, b) => a - b);
  const column = (line) => seconds.map((second) => line.get(second));
  return { keys, banded, data: [seconds, ...lines.map(column), column(doubtful), ...bands.map(column)] };
}
