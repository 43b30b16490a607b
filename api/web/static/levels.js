// How a station's state is said: level, health, main value, distance to the next threshold.
import { html } from "./lib.js";
import { known, named, stationName, t } from "./i18n.js";
import { measured, number, unit } from "./format.js";
import { metrics } from "./store.js";

// What a station is for, the most telling first; a metric with thresholds goes before all of them.
const TELLING = ["water.level", "rain.rate", "rain.interval", "rain.total", "air.pm2_5", "air.pm10",
  "water.dissolved_oxygen", "water.ph", "water.salinity", "air.temperature", "soil.moisture"];
const MAX_LEVEL = 5;

const _rank = (station, reading) => {
  if (station.thresholds?.[reading.metric]?.length) return -1;
  const place = TELLING.indexOf(reading.metric);
  return place < 0 ? TELLING.length + (reading.metric.startsWith("battery.") ? 1 : 0) : place;
};

/** The readings of a station in the order in which they tell something. */
export const byImportance = (station) =>
  [...station.latest].sort((a, b) =>
    _rank(station, a) - _rank(station, b) || a.metric.localeCompare(b.metric) || a.channel - b.channel);

/** The one reading that stands for the station, undefined before the first. */
export const mainReading = (station) => byImportance(station)[0];

/** Silence is no "normal": without fresh data a station below all levels is of unknown level. */
export const isUnknown = ({ level, health }) => !(level > 0) && health !== "ok";
export const stateClass = (state) => (isUnknown(state) ? "level-unknown" : levelClass(state.level));
export const levelClass = (level) => `level-${Math.min(Math.max(level ?? 0, 0), MAX_LEVEL)}`;
/** One triangle a level: told apart without colours. */
export const levelSign = (level) => "▲".repeat(Math.min(level ?? 0, MAX_LEVEL));
export const levelText = (level, label) => (level > 0 ? label || t("level.n", { n: level }) : t("level.none"));
export const metricName = (key, channel = 0) => {
  const text = named(metrics.value[key]?.name, key ?? "");
  return channel ? `${text} (${t("channel", { n: channel })})` : text;
};
export const qualityText = (flag) => t(known(`quality.${flag}`) ? `quality.${flag}` : "quality.2");

export const certaintyText = (word) => (known(`certainty.${word}`) ? t(`certainty.${word}`) : word);

/** Value with unit, as text: `104,62 m`. */
export const valueText = (reading) =>
  `${measured(reading.value, metrics.value[reading.metric])} ${unit(reading.unit)}`.trim();

/** Where the main value stands between its thresholds: above the highest passed, or below the next. */
export function thresholdText(station) {
  const reading = mainReading(station);
  const thresholds = reading && station.thresholds?.[reading.metric];
  if (!thresholds?.length || !Number.isFinite(reading.value)) return "";
  const sorted = [...thresholds].sort((a, b) => a.level - b.level);
  const rising = sorted.every((one, index) => index === 0 || one.value > sorted[index - 1].value);
  if (!rising) return "";
  const digits = metrics.value[reading.metric]?.precision ?? 2;
  const say = (key, threshold) => t(key, {
    label: threshold.label,
    distance: `${number(Math.abs(reading.value - threshold.value), digits)} ${unit(reading.unit)}`.trim(),
  });
  const passed = sorted.filter((one) => reading.value >= one.value).at(-1);
  return passed ? say("threshold.above", passed) : say("threshold.below", sorted[0]);
}

export const LevelBadge = ({ level, label }) => html`
  <span class=${`level-badge ${levelClass(level)}`}>
    ${level > 0 && html`<span class="sign" aria-hidden="true">${levelSign(level)}</span>`}
    ${levelText(level, label)}
  </span>`;

export const StateBadge = ({ state }) => (isUnknown(state)
  ? html`<span class="level-badge level-unknown">${t("level.unknown")}</span>`
  : html`<${LevelBadge} level=${state.level} label=${state.label} />`);

export const HealthMark = ({ health }) => html`
  <span class=${`health health-${health}`}><i aria-hidden="true"></i>${t(`health.${health}`)}</span>`;

export const SimulatedMark = () => html`<span class="tag tag-simulated">${t("simulated")}</span>`;

/** All that a marker shows, in one sentence for those who do not see it. */
export function spoken(station) {
  const reading = mainReading(station);
  return [
    stationName(station),
    reading ? `${metricName(reading.metric)} ${valueText(reading)}` : t("station.no_values"),
    isUnknown(station.state) ? t("level.unknown") : levelText(station.state.level, station.state.label),
    t(`health.${station.state.health}`),
    station.simulated && t("simulated"),
  ].filter(Boolean).join(", ");
}
