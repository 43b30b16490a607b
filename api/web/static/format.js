// Numbers, units and times as a reader in Vietnam expects them.
import { lang, t } from "./i18n.js";

export const TIME_ZONE = "Asia/Ho_Chi_Minh";

// UCUM codes whose printed form differs.
const UNITS = {
  Cel: "°C", "ug/m3": "µg/m³", "mg/m3": "mg/m³", "ug/L": "µg/L", "[ppm]": "ppm", "[ppb]": "ppb",
  m3: "m³", "m3/s": "m³/s", "m3/h": "m³/h", "10*6.m3": "10⁶ m³", "uS/cm": "µS/cm", "[pH]": "", "[NTU]": "NTU",
  "{Pt-Co}": "Pt-Co", "{MPN}/(100.mL)": "MPN/100 mL", "W/m2": "W/m²", "kW.h": "kWh", "um/m": "µm/m",
  "[g]": "g", "dB[SPL]": "dB", "dB{mW}": "dBm", deg: "°", "1": "",
};
export const unit = (ucum) => UNITS[ucum] ?? ucum ?? "";

const formatters = new Map();

function _formatter(make, tag, options) {
  const key = `${make.name}|${tag}|${JSON.stringify(options)}`;
  if (!formatters.has(key)) formatters.set(key, new make(tag, options));
  return formatters.get(key);
}

/** `1234.5` as `1.234,50` (vi) or `1,234.50` (en); an en dash when there is no number. */
export function number(value, digits = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return _formatter(Intl.NumberFormat, lang.value === "en" ? "en-GB" : "vi-VN", options).format(value);
}

/** A reading's value by its metric of the catalogue: its precision, or yes/no for a switch. */
export function measured(value, metric) {
  const isSwitch = metric?.unit === "1" && metric.range?.[1] === 1 && metric.precision === 0;
  if (isSwitch && Number.isFinite(value)) return t(value ? "value.yes" : "value.no");
  return number(value, metric?.precision ?? 2);
}

// British order is the Vietnamese one, with the slash that Vietnamese readers write: 21/11/2026.
const DATE_LOCALE = "en-GB";
const _inZone = (options) => ({ timeZone: TIME_ZONE, hourCycle: "h23", ...options });

function _shown(time, options) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "–";
  return _formatter(Intl.DateTimeFormat, DATE_LOCALE, _inZone(options)).format(date);
}

const DAY = { day: "2-digit", month: "2-digit" };
const CLOCK = { hour: "2-digit", minute: "2-digit" };

export const clock = (time) => _shown(time, CLOCK);
export const clockSeconds = (time) => _shown(time, { ...CLOCK, second: "2-digit" });
export const day = (time) => _shown(time, DAY);

/** Date and time to the minute, local time of Vietnam: `18:05 21/11`, with the year when it is another. */
export function dateTime(time) {
  const thisYear = new Date().getFullYear() === new Date(time).getFullYear();
  return `${clock(time)} ${_shown(time, thisYear ? DAY : { ...DAY, year: "numeric" })}`;
}

/** A length of time in its two largest parts: `2 giờ 5 phút`. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return t("time.seconds", { n: seconds });
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return t("time.minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  const [large, rest, small] =
    hours < 24
      ? [t("time.hours", { n: hours }), minutes % 60, "time.minutes"]
      : [t("time.days", { n: Math.floor(hours / 24) }), hours % 24, "time.hours"];
  return rest ? `${large} ${t(small, { n: rest })}` : large;
}

/** How long ago `time` was, seen from `now` (ms). */
export function ago(time, now) {
  if (!time) return t("time.never");
  const elapsed = now - Date.parse(time);
  return elapsed < 10_000 ? t("time.just_now") : t("time.ago", { duration: duration(elapsed) });
}
