// The one place that knows the versions of the vendored libraries.
import { h, render } from "./vendor/preact-11.2.0.js";
import { useEffect, useRef, useState } from "./vendor/preact-hooks-11.2.0.js";
import { batch, computed, effect, signal, useSignal } from "./vendor/preact-signals-2.11.4.js";
import htm from "./vendor/htm-3.1.1.js";

export const html = htm.bind(h);
export { batch, computed, effect, render, signal, useEffect, useRef, useSignal, useState };

// Leaflet and uPlot are classic scripts that index.html loads before the modules.
export const { L, uPlot } = window;
export const BASE_MAP_URL = "/static/vendor/vn-base-2026-11-21.json";
