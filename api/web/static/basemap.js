// The drawn base map: land, provinces, and the archipelagos of Việt Nam. Needs no internet.
import { BASE_MAP_URL, L } from "./lib.js";
import { named } from "./i18n.js";

let drawn = null;
const _data = () => (drawn ??= fetch(BASE_MAP_URL).then((response) => response.json()));

function _label(at, text, kind) {
  const element = document.createElement("span");
  element.textContent = text;
  const icon = L.divIcon({ html: element, className: `map-label ${kind}`, iconSize: null });
  return L.marker([at[1], at[0]], { icon, interactive: false, keyboard: false, pane: "labels" });
}

const _path = (className) => ({ className, interactive: false, pane: "base", weight: 1 });

function _archipelago(group, archipelago, radius) {
  for (const [, longitude, latitude] of archipelago.islands) {
    L.circleMarker([latitude, longitude], { ..._path("map-island"), radius }).addTo(group);
  }
  _label(archipelago.at, named(archipelago.name), "archipelago").addTo(group);
}

/** The panes the base is drawn in, below everything else of `map`. */
export function addBasePanes(map) {
  map.createPane("base").classList.add("pane-base");
  map.createPane("labels").classList.add("pane-labels");
}

/** The base as a new layer group, its labels in the chosen language; `radius` of an island in pixels. */
export async function baseLayers(radius) {
  const data = await _data();
  const group = L.layerGroup();
  L.geoJSON(data.neighbours, _path("map-neighbours")).addTo(group);
  L.geoJSON(data.provinces, _path("map-province")).addTo(group);
  for (const { properties } of data.provinces.features) _label(properties.at, properties.name, "province").addTo(group);
  _label(data.sea.at, named(data.sea.name), "sea").addTo(group);
  for (const archipelago of data.archipelagos) _archipelago(group, archipelago, radius);
  return group;
}
