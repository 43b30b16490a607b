// One station: its chart, latest values, thresholds and alerts.
import { html, useEffect, useSignal } from "./lib.js";
import { stationName, t } from "./i18n.js";
import { get, withQuery } from "./api.js";
import { ago, dateTime, measured, number, unit } from "./format.js";
import { AlertRow } from "./alerts.js";
import { Chart } from "./chart.js";
import { byImportance, certaintyText, HealthMark, LevelBadge, metricName, qualityText, SimulatedMark, StateBadge, thresholdText }
  from "./levels.js";
import { useMarks } from "./marks.js";
import { seriesOf, sharedSeries, useDeviceNames } from "./names.js";
import { useReadings } from "./readings.js";
import { metrics, now, sortedAlerts, stations } from "./store.js";
import { theme } from "./theme.js";

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
const SPANS = { "1h": HOUR_S, "6h": 6 * HOUR_S, "24h": DAY_S, "7d": 7 * DAY_S, "30d": 30 * DAY_S, "1y": 366 * DAY_S };
const ALERTS_SHOWN = 5;
const DENSE = 60; // readings in an hour: more of them are best seen an hour at a time

function Spans({ span: chosen, onChoose }) {
  return html`
    <div class="segments" role="group" aria-label=${t("chart.span")}>
      ${Object.keys(SPANS).map((span) => html`
        <button type="button" aria-pressed=${chosen === span} onClick=${() => onChoose(span)}>
          ${t(`span.${span}`)}</button>`)}
    </div>`;
}

/** The period a chart starts with: "1h" where data are dense or simulated, else "24h"; null until that is known. */
function useUsualSpan(station, metric) {
  const usual = useSignal({});
  const key = `${station?.code}|${metric}`;
  useEffect(() => {
    if (!metric || station.simulated) return;
    const settle = (span) => { usual.value = { key, span }; };
    const from = new Date(Date.now() - HOUR_S * 1000).toISOString();
    get(withQuery("/readings", { station: station.code, metric, from, limit: DENSE + 1 })).then(
      ({ items }) => settle(items.length > DENSE ? "1h" : "24h"), () => settle("24h"));
  }, [key, station?.simulated]);
  if (station?.simulated) return "1h";
  return usual.value.key === key ? usual.value.span : null;
}

function Values({ station, nameOf, chosen, onChoose }) {
  const shared = sharedSeries(station.latest);
  return html`
    <table class="values">
      <thead><tr>
        <th scope="col">${t("value.metric")}</th><th scope="col" class="right">${t("value.value")}</th>
        <th scope="col">${t("value.quality")}</th><th scope="col" class="right">${t("value.time")}</th>
      </tr></thead>
      <tbody>
        ${byImportance(station).map((reading) => html`
          <tr key=${`${reading.dev_eui}${reading.metric}${reading.channel}`} class=${reading.metric === chosen ? "chosen" : ""}>
            <td><button type="button" class="link" data-testid=${`metric-${reading.metric}`} aria-pressed=${reading.metric === chosen}
              onClick=${() => onChoose(reading.metric)}>${metricName(reading.metric, reading.channel)}</button>
              ${shared.has(seriesOf(reading)) && html`<small class="muted device-name">${nameOf(reading.dev_eui)}</small>`}
              <small class=${`quality narrow quality-${reading.quality}`}>${qualityText(reading.quality)}</small></td>
            <td class="right"><span class="figure">${measured(reading.value, metrics.value[reading.metric])}</span>
              <span class="unit"> ${unit(reading.unit)}</span></td>
            <td><span class=${`quality quality-${reading.quality}`}>${qualityText(reading.quality)}</span></td>
            <td class="right"><time dateTime=${reading.time} title=${ago(reading.time, now.value)}>${dateTime(reading.time)}</time></td>
          </tr>`)}
      </tbody>
    </table>`;
}

function Thresholds({ thresholds, metric }) {
  if (!thresholds.length) return null;
  return html`
    <section class="card">
      <h2>${t("thresholds")} · ${metricName(metric.key)}</h2>
      <ul class="thresholds">
        ${thresholds.map((one) => html`
          <li><${LevelBadge} level=${one.level} label=${one.label} />
            <span class="figure">${number(one.value, metric.precision)} ${unit(metric.unit)}</span>
            ${one.certainty && html`<span class="muted">${t("certainty")}: ${certaintyText(one.certainty)}</span>`}
            ${one.source && html`<small class="muted">${one.source}</small>`}
          </li>`)}
      </ul>
    </section>`;
}

/** A name for a line (`dev_eui|channel`) of the chart. */
function _lineName(key, nameOf) {
  const [eui, channel] = key.split("|");
  return channel === "0" ? nameOf(eui) : `${nameOf(eui)} (${t("channel", { n: channel })})`;
}

function Plot({ station, nameOf, metricKey, span }) {
  const { table, state } = useReadings(station.code, metricKey, SPANS[span]);
  const metric = metrics.value[metricKey];
  const alerts = sortedAlerts.value.filter((one) => one.station?.code === station.code && one.metric === metricKey);
  const marks = useMarks(alerts, SPANS[span]);
  const empty = state.value === "ready" && table.value.data[0].length === 0;
  return html`
    <div class="plot" aria-busy=${state.value === "loading"}>
      <${Chart} table=${table.value} lines=${table.value.keys.map((key) => _lineName(key, nameOf))} span=${SPANS[span]} time=${now.value} metric=${metric}
        thresholds=${station.thresholds?.[metricKey] ?? []} marks=${marks} theme=${theme.value} />
      ${empty && html`<p class="plot-note">${t("chart.empty")}</p>`}
      ${state.value === "loading" && html`<p class="plot-note">${t("loading")}</p>`}
      ${state.value?.text && html`<p class="problem" role="alert">${state.value.text}</p>`}
    </div>`;
}

function Head({ station }) {
  const { health, seen_at: seenAt } = station.state;
  const place = [station.river, station.basin, station.admin_unit].filter(Boolean).join(" · ");
  return html`
    <header class="station-head">
      <a class="back" href="#/">← ${t("nav.overview")}</a>
      <h1>${stationName(station)}</h1>
      <p class="muted">${place}${place && " · "}${number(station.latitude, 3)}° N, ${number(station.longitude, 3)}° E
        ${station.certainty && html` <span title=${station.source}>(${t("position.certainty", { certainty: certaintyText(station.certainty) })})</span>`}</p>
      <p class="station-marks">
        <${StateBadge} state=${station.state} /> <${HealthMark} health=${health} />
        ${station.simulated && html`<${SimulatedMark} />`}
        <span class="muted">${t("station.seen", { ago: ago(seenAt, now.value) })}</span>
        <strong>${thresholdText(station)}</strong>
      </p>
    </header>`;
}

/** `#/stations/<code>`. */
export function StationView({ code }) {
  const station = stations.value.find((one) => one.code === code);
  const picked = useSignal(null);
  const chosenSpan = useSignal(null);
  useEffect(() => { picked.value = null; chosenSpan.value = null; }, [code]);
  const metricKey = picked.value ?? (station && byImportance(station)[0]?.metric);
  const usualSpan = useUsualSpan(station, metricKey);
  const span = chosenSpan.value ?? usualSpan;
  const nameOf = useDeviceNames(station);
  if (!station) return html`<p class="empty">${t("station.unknown", { code })} <a href="#/">${t("nav.overview")}</a></p>`;
  const alerts = sortedAlerts.value.filter((one) => one.station?.code === code).slice(0, ALERTS_SHOWN);
  return html`
    <div class="station-page">
      <${Head} station=${station} />
      <div class="columns">
        <section class="card wide">
          <div class="card-head"><h2>${metricName(metricKey)} ${metricKey && html`<small class="muted">(${unit(metrics.value[metricKey]?.unit)})</small>`}</h2>
            <${Spans} span=${span} onChoose=${(one) => { chosenSpan.value = one; }} /></div>
          ${!metricKey && html`<p class="empty">${t("station.no_values")}</p>`}
          ${metricKey && span && html`
            <${Plot} key=${`${code}|${metricKey}|${span}`} station=${station} nameOf=${nameOf} metricKey=${metricKey} span=${span} />`}
        </section>
        <section class="card"><h2>${t("station.latest")}</h2>
          <${Values} station=${station} nameOf=${nameOf} chosen=${metricKey} onChoose=${(key) => { picked.value = key; }} /></section>
        ${metricKey && html`<${Thresholds} thresholds=${station.thresholds?.[metricKey] ?? []} metric=${metrics.value[metricKey] ?? {}} />`}
        <section class="card wide"><h2>${t("station.alerts")}</h2>
          ${alerts.length
            ? html`<ul class="alert-list">${alerts.map((alert) => html`<${AlertRow} key=${alert.id} alert=${alert} />`)}</ul>`
            : html`<p class="empty">${t("alerts.none")}</p>`}
        </section>
      </div>
    </div>`;
}
