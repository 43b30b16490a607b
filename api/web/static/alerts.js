// The alert list, and the acknowledgement.
import { html, useEffect, useRef, useSignal } from "./lib.js";
import { known, named, stationName, t } from "./i18n.js";
import { dateTime, duration } from "./format.js";
import { get, list, post } from "./api.js";
import { LevelBadge, levelText, metricName, SimulatedMark, valueText } from "./levels.js";
import { can, firingAlerts, loadMoreAlerts, moreAlerts, now, sortedAlerts, stations, takeAlert } from "./store.js";

const _state = (alert) => (alert.state === "firing" && alert.acked_at ? "acked" : alert.state);
const _stationOf = (alert) => stations.value.find((one) => one.code === alert.station?.code) ?? alert.station;

/** An alert carries the label of its present level; that of its peak is the station's. */
const _peakLabel = (alert) =>
  _stationOf(alert)?.thresholds?.[alert.metric]?.find((one) => one.level === alert.peak_level)?.label;

function _lasted(alert) {
  const end = alert.ended_at ? Date.parse(alert.ended_at) : now.value;
  return duration(end - Date.parse(alert.opened_at));
}

function _transitionText(transition) {
  const key = `transition.${transition.kind}`;
  return known(key) ? t(key) : transition.kind;
}

function Transitions({ alert }) {
  const items = useSignal(null);
  const problem = useSignal(null);
  useEffect(() => {
    list(`/alerts/${alert.id}/transitions`).then(
      (answer) => { items.value = answer.items; }, (error) => { problem.value = error; });
  }, [alert.id, alert.seq]);
  if (problem.value) return html`<p class="problem" role="alert">${problem.value.text}</p>`;
  if (!items.value) return html`<p class="muted">${t("loading")}</p>`;
  return html`
    <ol class="transitions">
      ${items.value.map((one) => html`
        <li key=${one.seq}>
          <time dateTime=${one.at}>${dateTime(one.at)}</time>
          <strong>${_transitionText(one)}</strong>
          ${one.to_level > 0 && one.to_level !== one.from_level && html`<${LevelBadge} level=${one.to_level} label=${one.label} />`}
          ${Number.isFinite(one.value) && html`<span class="figure">${valueText({ ...alert, value: one.value })}</span>`}
          ${one.actor && html`<span class="muted">${t("transition.by", { who: one.actor })}</span>`}
          ${one.late && html`<span class="tag">${t("alert.late")}</span>`}
          ${one.note && html`<q>${one.note}</q>`}
        </li>`)}
    </ol>`;
}

function Acknowledge({ alert, onDone }) {
  const note = useSignal("");
  const busy = useSignal(false);
  const problem = useSignal(null);
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  async function send(event) {
    event.preventDefault();
    busy.value = true;
    problem.value = null;
    try {
      const text = note.value.trim();
      takeAlert(await post(`/alerts/${alert.id}/ack`, text ? { note: text } : {}));
      onDone();
    } catch (error) {
      problem.value = error;
      busy.value = false;
    }
  }
  return html`
    <form class="ack-form" onSubmit=${send} onKeyDown=${(event) => event.key === "Escape" && onDone()}>
      <label>${t("ack.note")}
        <textarea rows="2" maxlength="1000" value=${note} ref=${field}
          onInput=${(event) => { note.value = event.currentTarget.value; }}></textarea></label>
      <p class="buttons">
        <button type="submit" class="primary" disabled=${busy.value} data-testid=${`ack-send-${alert.id}`}>${t("ack.send")}</button>
        <button type="button" onClick=${onDone}>${t("cancel")}</button>
      </p>
      ${problem.value && html`<p class="problem" role="alert">${problem.value.text}</p>`}
    </form>`;
}

function AckButton({ alert, onOpen }) {
  if (alert.state !== "firing" || alert.acked_at) return null;
  const allowed = can("operator");
  return html`
    <button type="button" class="primary" data-testid=${`ack-${alert.id}`} disabled=${!allowed}
      title=${allowed ? "" : t("ack.needs_operator")} onClick=${onOpen}>${t("ack")}</button>
    ${!allowed && html`<small class="muted">${t("ack.needs_operator")}</small>`}`;
}

function Where({ alert }) {
  if (!alert.station) return html`<span>${t("alert.device", { device: alert.dev_eui })}</span>`;
  return html`<a href=${`#/stations/${encodeURIComponent(alert.station.code)}`}>${stationName(_stationOf(alert))}</a>`;
}

/** One alert: what, where, since when; its history on demand. */
export function AlertRow({ alert }) {
  const open = useSignal(false);
  const acknowledging = useSignal(false);
  const state = _state(alert);
  const level = alert.state === "firing" ? alert.level : alert.peak_level;
  return html`
    <li class=${`alert-row alert-${state}`} data-testid=${`alert-row-${alert.id}`} data-state=${state}>
      <div class="alert-level"><${LevelBadge} level=${level} label=${alert.label} /></div>
      <div class="alert-what">
        <h3><${Where} alert=${alert} /> <span class="rule-name">${named(alert.rule.name, alert.rule.id)}</span></h3>
        <p>
          <span class="figure">${metricName(alert.metric, alert.channel)} ${valueText(alert)}</span>
          <span class="muted"> ${t("alert.value_when")}${alert.peak_level > alert.level && alert.state === "firing"
            && ` · ${t("alert.peak", { level: levelText(alert.peak_level, _peakLabel(alert)) })}`}</span>
        </p>
        <p class="muted">
          ${t("alert.opened", { time: dateTime(alert.opened_at) })} · ${t("alert.lasted", { duration: _lasted(alert) })}
          ${alert.ended_at && html` · ${t("alert.ended", { time: dateTime(alert.ended_at) })}`}
        </p>
        ${alert.acked_at && html`<p class="muted">${t("alert.acked", { who: alert.acked_by ?? "?", time: dateTime(alert.acked_at) })}</p>`}
      </div>
      <div class="alert-marks">
        <span class=${`chip chip-${state}`}>${t(`alert.state.${state}`)}</span>
        ${alert.late && html`<span class="tag">${t("alert.late")}</span>`}
        ${alert.simulated && html`<${SimulatedMark} />`}
      </div>
      <div class="alert-actions">
        ${!acknowledging.value && html`<${AckButton} alert=${alert} onOpen=${() => { acknowledging.value = true; }} />`}
        <button type="button" class="link" aria-expanded=${open.value} onClick=${() => { open.value = !open.value; }}>
          ${t(open.value ? "alert.hide_history" : "alert.history")}</button>
      </div>
      ${acknowledging.value && html`<${Acknowledge} alert=${alert} onDone=${() => { acknowledging.value = false; }} />`}
      ${open.value && html`<${Transitions} alert=${alert} />`}
    </li>`;
}

function More() {
  const problem = useSignal(null);
  if (!moreAlerts.value) return null;
  const load = () => loadMoreAlerts().catch((error) => { problem.value = error; });
  return html`
    <p class="buttons"><button type="button" onClick=${load}>${t("alerts.more")}</button></p>
    ${problem.value && html`<p class="problem" role="alert">${problem.value.text}</p>`}`;
}

/** `#/alerts` and, when one is linked to, `#/alerts/<id>`. */
export function AlertsView({ id }) {
  const firingOnly = useSignal(false);
  useEffect(() => {
    if (id && !sortedAlerts.value.some((alert) => alert.id === id)) get(`/alerts/${encodeURIComponent(id)}`).then(takeAlert, () => {});
  }, [id]);
  const all = sortedAlerts.value.filter((alert) => !id || alert.id === id);
  const shown = firingOnly.value ? firingAlerts.value : all;
  const choose = (value) => () => { firingOnly.value = value; };
  return html`
    <div class="page">
      <header class="page-head">
        <h1>${t("nav.alerts")}</h1>
        <div class="segments" role="group" aria-label=${t("alerts.filter")}>
          <button type="button" aria-pressed=${firingOnly.value} onClick=${choose(true)}>
            ${t("alerts.firing", { n: firingAlerts.value.length })}</button>
          <button type="button" aria-pressed=${!firingOnly.value} onClick=${choose(false)}>${t("alerts.all")}</button>
        </div>
      </header>
      ${shown.length
        ? html`<ul class="alert-list">${shown.map((alert) => html`<${AlertRow} key=${alert.id} alert=${alert} />`)}</ul>`
        : html`<p class="empty">${t(firingOnly.value ? "alerts.none_firing" : "alerts.none")}</p>`}
      ${!firingOnly.value && html`<${More} />`}
    </div>`;
}
