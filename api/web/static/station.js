// One station: its chart, latest values, thresholds and alerts.
import { html, useEffect, useSignal } from "./lib.js";
import { stationName, t } from "./i18n.js";
import { ago, dateTime, measured, number, unit } from "./format.js";
import { AlertRow } from "./alerts.js";
import { Chart } from "./chart.js";
import { byImportance, certaintyText, HealthMark, LevelBadge, metricName, qualityText, SimulatedMark, StateBadge, thresholdText }
  from "./levels.js";
import { useReadings } from "./readings.js";
import { metrics, now, sortedAlerts, stations } from "./store.js";
import { theme } from "./theme.js";

const HOUR_S = 3600;
const SPANS = { "1h": HOUR_S, "6h": 6 * HOUR_S, "24h": 24 * HOUR_S, "7d": 7 * 24 * HOUR_S };
const ALERTS_SHOWN = 5;

function Spans({ chosen }) {
  return html`
    <div class="segments" role="group" aria-label=${t("chart.span")}>
      ${Object.keys(SPANS).map((span) => html`
        <button type="button" aria-pressed=${chosen.value === span} onClick=${() => { chosen.value = span; }}>
          ${t(`span.${span}`)}</button>`)}
    </div>`;
}

function Values({ station, chosen, onChoose }) {
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

function Plot({ station, metricKey, span }) {
  const { table, state } = useReadings(station.code, metricKey, SPANS[span]);
  const metric = metrics.value[metricKey];
  const alerts = sortedAlerts.value.filter((one) => one.station?.code === station.code && one.metric === metricKey);
  const empty = state.value === "ready" && table.value.data[0].length === 0;
  return html`
    <div class="plot" aria-busy=${state.value === "loading"}>
      <${Chart} table=${table.value} span=${SPANS[span]} time=${now.value} metric=${metric}
        thresholds=${station.thresholds?.[metricKey] ?? []} alerts=${alerts} theme=${theme.value} />
      ${empty && html`<p class="plot-note">${t("chart.empty")}</p>`}
      ${state.value === "loading" && html`<p class="plot-note">${t("loading")}</p>`}
      ${state.value === "partial" && html`<p class="note">${t("chart.partial")}</p>`}
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
  const span = useSignal("24h");
  useEffect(() => { picked.value = null; }, [code]);
  if (!station) return html`<p class="empty">${t("station.unknown", { code })} <a href="#/">${t("nav.overview")}</a></p>`;
  const metricKey = picked.value ?? byImportance(station)[0]?.metric;
  const alerts = sortedAlerts.value.filter((one) => one.station?.code === code).slice(0, ALERTS_SHOWN);
  return html`
    <div class="station-page">
      <${Head} station=${station} />
      <div class="columns">
        <section class="card wide">
          <div class="card-head"><h2>${metricName(metricKey)} ${metricKey && html`<small class="muted">(${unit(metrics.value[metricKey]?.unit)})</small>`}</h2>
            <${Spans} chosen=${span} /></div>
          ${metricKey
            ? html`<${Plot} key=${`${code}|${metricKey}|${span.value}`} station=${station} metricKey=${metricKey} span=${span.value} />`
            : html`<p class="empty">${t("station.no_values")}</p>`}
        </section>
        <section class="card"><h2>${t("station.latest")}</h2>
          <${Values} station=${station} chosen=${metricKey} onChoose=${(key) => { picked.value = key; }} /></section>
        ${metricKey && html`<${Thresholds} thresholds=${station.thresholds?.[metricKey] ?? []} metric=${metrics.value[metricKey] ?? {}} />`}
        <section class="card wide"><h2>${t("station.alerts")}</h2>
          ${alerts.length
            ? html`<ul class="alert-list">${alerts.map((alert) => html`<${AlertRow} key=${alert.id} alert=${alert} />`)}</ul>`
            : html`<p class="empty">${t("alerts.none")}</p>`}
        </section>
      </div>
    </div>`;
}
