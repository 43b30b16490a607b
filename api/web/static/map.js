// The map of the overview: one pin a station, its value inside.
import { effect, html, L, render, useEffect, useRef } from "./lib.js";
import { lang, stationName, t } from "./i18n.js";
import { measured, unit } from "./format.js";
import { addBasePanes, baseLayers } from "./basemap.js";
import { levelClass, levelSign, levelText, mainReading, spoken, stateClass } from "./levels.js";
import { metrics, stations } from "./store.js";

const COUNTRY = [[6.2, 102], [23.6, 117.8]];
const BOUNDS = [[4.5, 98.5], [25.5, 119.5]];
const CLOSEST_FIT = 10;
// Room for the pins, which stand above their places, and for the buttons.
const FIT = { paddingTopLeft: [60, 90], paddingBottomRight: [70, 50] };
const LEAST_ROOM = 320; // pixels between legend and inset
const LABEL_ZOOM = 8;

function Pin({ station }) {
  const reading = mainReading(station);
  const { level, label, health } = station.state;
  return html`
    <div class=${`pin ${stateClass(station.state)} pin-${health}`}>
      <strong>${reading ? measured(reading.value, metrics.value[reading.metric]) : "–"}</strong>
      ${reading && html`<small>${unit(reading.unit)}</small>`}
      ${level > 0 && html`<em>${levelSign(level)} ${levelText(level, label)}</em>`}
      ${station.simulated && html`<b class="pin-simulated">${t("simulated.short")}</b>`}
      <span class="pin-name">${stationName(station)}</span>
    </div>`;
}

function _addPin(map, station) {
  const host = document.createElement("div");
  const icon = L.divIcon({ html: host, className: "pin-host", iconSize: null });
  const marker = L.marker([station.latitude, station.longitude], { icon, riseOnHover: true }).addTo(map);
  const open = () => { window.location.hash = `#/stations/${encodeURIComponent(station.code)}`; };
  marker.on("click", open);
  marker.on("keydown", ({ originalEvent: { key } }) => { if (key === "Enter" || key === " ") open(); });
  return { marker, host };
}

/** Brings the pins in line with the stations; changes only what is inside those that stay. */
function _updatePins(map, pins) {
  const present = new Set(stations.value.map((station) => station.code));
  for (const [code, { marker }] of pins) {
    if (!present.has(code)) {
      marker.remove();
      pins.delete(code);
    }
  }
  for (const station of stations.value) {
    if (!pins.has(station.code)) pins.set(station.code, _addPin(map, station));
    const { marker, host } = pins.get(station.code);
    marker.setLatLng([station.latitude, station.longitude]).setZIndexOffset(station.state.level * 1000);
    marker.getElement().setAttribute("aria-label", spoken(station));
    render(html`<${Pin} station=${station} />`, host);
  }
}

function _stationBounds() {
  return L.latLngBounds(stations.value.map((station) => [station.latitude, station.longitude]));
}

function _overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** Whether one of the `covers` (legend, inset) lies over a pin. */
function _isCovered(map, covers) {
  const pins = [...map.getContainer().querySelectorAll(".pin, .pin-name")].map((pin) => pin.getBoundingClientRect());
  return covers.some((cover) => pins.some((pin) => _overlap(pin, cover.getBoundingClientRect())));
}

/** Shows every station clear of `legend` and `inset`; closes the legend where there is no room for both. */
function _fitStations(map, { legend, inset }) {
  if (!stations.value.length) {
    map.fitBounds(COUNTRY);
    return;
  }
  // Without animation the pins stand at once where the covers have to be compared with them.
  const fit = (padding) => map.fitBounds(_stationBounds(), { ...padding, maxZoom: CLOSEST_FIT, animate: false });
  fit(FIT);
  if (!_isCovered(map, [legend, inset])) return;
  const { paddingTopLeft: [left, top], paddingBottomRight: [right, bottom] } = FIT;
  const sides = left + legend.offsetWidth + right + inset.offsetWidth;
  if (map.getSize().x - sides > LEAST_ROOM) {
    fit({ paddingTopLeft: [left + legend.offsetWidth, top], paddingBottomRight: [right + inset.offsetWidth, bottom] });
  }
  if (!_isCovered(map, [legend])) return;
  legend.open = false;
  fit({ paddingTopLeft: [left, top], paddingBottomRight: [right, bottom + legend.offsetHeight] });
}

/** The whole country in a corner, so that the place of the large map is always seen. */
function _inset(element, map) {
  const small = L.map(element, {
    zoomControl: false, attributionControl: false, dragging: false, scrollWheelZoom: false, keyboard: false,
    doubleClickZoom: false, touchZoom: false, boxZoom: false, zoomSnap: 0,
  }).fitBounds(COUNTRY, { padding: [2, 2] });
  const frame = L.rectangle(map.getBounds(), { className: "map-frame", interactive: false, weight: 1.5 }).addTo(small);
  map.on("moveend", () => frame.setBounds(map.getBounds()));
  return small;
}

/** Keeps the base of both maps drawn in the chosen language; answers how to stop. */
function _drawBase(map, small) {
  const maps = [map, small];
  maps.forEach(addBasePanes);
  let stopped = false;
  let drawn = [];
  const stop = effect(() => {
    const chosen = lang.value;
    Promise.all([baseLayers(2), baseLayers(0.5)]).then((groups) => {
      if (stopped || chosen !== lang.peek()) return;
      drawn.forEach((group) => group.remove());
      drawn = groups.map((group, index) => group.addTo(maps[index]));
    });
  });
  return () => { stopped = true; stop(); };
}

function _start(element, covers) {
  const map = L.map(element, {
    zoomControl: false, attributionControl: false, maxBounds: BOUNDS, maxBoundsViscosity: 0.8,
    minZoom: 5, maxZoom: 13, zoomSnap: 0.5,
  });
  map.fitBounds(COUNTRY);
  const small = _inset(covers.inset, map);
  const showLabels = () => element.classList.toggle("labels-far", map.getZoom() < LABEL_ZOOM);
  map.on("zoomend", showLabels);
  showLabels();

  const pins = new Map();
  let fitting = 0;
  const stopPins = effect(() => {
    _updatePins(map, pins);
    if (!stations.value.length) return;
    // After the banner, which comes with the first stations, has taken its room from the map.
    fitting ||= setTimeout(() => {
      map.invalidateSize({ pan: false });
      _fitStations(map, covers);
    });
  });
  const stopBase = _drawBase(map, small);
  const resized = new ResizeObserver(() => map.invalidateSize({ pan: false }));
  resized.observe(element);
  return { map, stop: () => { stopPins(); clearTimeout(fitting); stopBase(); resized.disconnect(); small.remove(); map.remove(); } };
}

const LEGEND_LEVELS = [0, 1, 2, 3, 4];
const LEGEND_HEALTH = ["ok", "late", "no_data"];

const Legend = ({ element }) => html`
  <details class="legend" ref=${element} open=${window.innerWidth > 900}>
    <summary>${t("legend")}</summary>
    <ul>
      ${LEGEND_LEVELS.map((level) => html`
        <li><span class=${`swatch ${levelClass(level)}`}>${levelSign(level)}</span>${t(`legend.level.${level}`)}</li>`)}
      <li><span class="swatch level-unknown"></span>${t("level.unknown")}</li>
      ${LEGEND_HEALTH.map((health) => html`
        <li><span class=${`swatch ring ring-${health}`}></span>${t(`health.${health}`)}</li>`)}
      <li><span class="swatch pin-simulated">${t("simulated.short")}</span>${t("simulated")}</li>
    </ul>
  </details>`;

/** The map with its buttons, legend and inset. */
export function StationMap() {
  const element = useRef(null);
  const inset = useRef(null);
  const legend = useRef(null);
  const covers = () => ({ legend: legend.current, inset: inset.current });
  const started = useRef(null);
  useEffect(() => {
    started.current = _start(element.current, covers());
    return () => started.current.stop();
  }, []);
  const act = (change) => () => change(started.current.map);
  return html`
    <section class="map-card" aria-label=${t("map")}>
      <div class="map" data-testid="map" ref=${element}></div>
      <div class="map-tools" role="group" aria-label=${t("map.tools")}>
        <button type="button" aria-label=${t("map.zoom_in")} onClick=${act((map) => map.zoomIn())}>+</button>
        <button type="button" aria-label=${t("map.zoom_out")} onClick=${act((map) => map.zoomOut())}>−</button>
        <button type="button" onClick=${act((map) => _fitStations(map, covers()))}>${t("map.stations")}</button>
        <button type="button" onClick=${act((map) => map.fitBounds(COUNTRY))}>${t("map.country")}</button>
      </div>
      <div class="map-inset" ref=${inset} aria-hidden="true"></div>
      <${Legend} element=${legend} />
      <p class="map-source">${t("map.source")}</p>
    </section>`;
}
