// Words in two languages; the choice is kept on this device.
import { effect, signal } from "./lib.js";
import vi from "./lang/vi.js";
import en from "./lang/en.js";

const DICTIONARIES = { vi, en };
const STORAGE_KEY = "quantrac.lang";

export const lang = signal(localStorage.getItem(STORAGE_KEY) === "en" ? "en" : "vi");

effect(() => {
  localStorage.setItem(STORAGE_KEY, lang.value);
  document.documentElement.lang = lang.value;
});

/** The text of `key` in the chosen language, `{name}` replaced from `params`. */
export function t(key, params = {}) {
  const text = DICTIONARIES[lang.value][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => params[name] ?? whole);
}

/** Whether `key` has a text: codes from the server may be newer than this page. */
export const known = (key) => key in DICTIONARIES[lang.value];

/** A name that comes in both languages, as `{vi, en}`. */
export const named = (names, fallback = "") => names?.[lang.value] || names?.vi || names?.en || fallback;

/** A station's name: Vietnamese, or the English one where it has one and English is chosen. */
export const stationName = (station) =>
  (lang.value === "en" && station?.name_en) || station?.name || station?.code || "";
