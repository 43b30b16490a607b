// The overview: the map, and beside it the list of stations.
import { html, useSignal } from "./lib.js";
import { stationName, t } from "./i18n.js";
import { ago, dateTime, measured, unit } from "./format.js";
import { byImportance, HealthMark, metricName, SimulatedMark, StateBadge, stateClass, thresholdText, valueText }
  from "./levels.js";
import { StationMap } from "./map.js";
import { metrics, now, stations } from "./store.js";

const OTHERS = 2;

/** Letters without their marks: "phu hiep" finds Phú Hiệp. */
const _plain = (text) => text.normalize("NFD").replace(/\p{Diacritic}/gu, "").replace(/đ/gi, "d").toLowerCase();

const _matches = (station, wanted) =>
  _plain([station.name, station.name_en, station.code, station.river, station.basin, station.admin_unit].join(" "))
    .includes(wanted);

/** Alerts first, the worst on top; then by name. */
const _order = (a, b) => b.state.level - a.state.level || a.name.localeCompare(b.name, "vi");

const _place = (station) => [station.river, station.admin_unit].filter(Boolean).join(" · ");

function Row({ station }) {
  const [main, ...others] = byImportance(station);
  const { health, seen_at: seenAt } = station.state;
  const distance = thresholdText(station);
  return html`
    <li class=${`station-row ${stateClass(station.state)}`} data-testid=${`station-row-${station.code}`}>
      <a href=${`#/stations/${encodeURIComponent(station.code)}`}>
        <span class="station-title"><strong>${stationName(station)}</strong><small>${_place(station)}</small></span>
        <span class="station-value">
          <span class="figure" data-testid=${`station-value-${station.code}`}>
            ${main ? measured(main.value, metrics.value[main.metric]) : "–"}</span>
          <span class="unit">${main && unit(main.unit)}</span>
          <small>${main ? metricName(main.metric) : t("station.no_values")}</small>
        </span>
        <span class="station-marks">
          <${StateBadge} state=${station.state} />
          <${HealthMark} health=${health} />
          ${station.simulated && html`<${SimulatedMark} />`}
          <time dateTime=${seenAt} title=${seenAt && dateTime(seenAt)}>${ago(seenAt, now.value)}</time>
        </span>
        ${(distance || others.length > 0) && html`
          <span class="station-more">
            ${distance && html`<span class="distance">${distance}</span>`}
            ${others.slice(0, OTHERS).map((one) => html`<span>${metricName(one.metric)} ${valueText(one)}</span>`)}
          </span>`}
      </a>
    </li>`;
}

function Counts() {
  const all = stations.value;
  const firing = all.filter((station) => station.state.level > 0).length;
  const silent = all.filter((station) => station.state.health !== "ok").length;
  return html`
    <p class="counts">
      <span>${t("stations.count", { n: all.length })}</span>
      <span class=${firing ? "strong" : ""}>${t("stations.firing", { n: firing })}</span>
      <span class=${silent ? "strong" : ""}>${t("stations.silent", { n: silent })}</span>
    </p>`;
}

/** `#/`: map and list share what they show. */
export function Overview() {
  const wanted = useSignal("");
  const needle = _plain(wanted.value.trim());
  const shown = stations.value.filter((station) => _matches(station, needle)).sort(_order);
  return html`
    <div class="overview">
      <${StationMap} />
      <section class="station-list" aria-label=${t("stations")}>
        <div class="list-head">
          <${Counts} />
          <input type="search" class="filter" placeholder=${t("stations.filter")} aria-label=${t("stations.filter")}
            value=${wanted} onInput=${(event) => { wanted.value = event.currentTarget.value; }} />
        </div>
        ${shown.length
          ? html`<ul>${shown.map((station) => html`<${Row} key=${station.code} station=${station} />`)}</ul>`
          : html`<p class="empty">${t(stations.value.length ? "stations.none_match" : "stations.none")}</p>`}
      </section>
    </div>`;
}
