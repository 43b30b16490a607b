// Devices that send but that nobody has registered yet, and the form that adopts them.
import { html, useEffect, useSignal } from "./lib.js";
import { stationName, t } from "./i18n.js";
import { ago } from "./format.js";
import { get, list, post } from "./api.js";
import { can, now, refreshSoon, stations } from "./store.js";

const POLL_MS = 2000;
const POLLS = 60;
const RELOAD_MS = 15_000;

/** `name = number` a line as an object; throws the first line that is not one. */
export function parseVariables(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const match = /^([A-Za-z_]\w*)\s*=\s*(-?\d+(?:[.,]\d+)?)$/.exec(line);
    if (!match) throw new RangeError(line);
    return [match[1], Number(match[2].replace(",", "."))];
  }));
}

/** The constants a device type's map asks for: every `{"variable": name}` in it, however deep. */
export function variableNames(mapping) {
  if (mapping === null || typeof mapping !== "object") return [];
  const own = typeof mapping.variable === "string" ? [mapping.variable] : [];
  return [...new Set([...own, ...Object.values(mapping).flatMap(variableNames)])];
}

/** All that a device is called, each name once: ours is often the network server's. */
const _knownAs = (device) =>
  [...new Set([device.name, ...Object.values(device.origin ?? {})])]
    .filter((value) => typeof value === "string" && value).join(" · ");

async function _decoded(devEui, jobId, onState) {
  for (let poll = 0; poll < POLLS; poll += 1) {
    const { items } = await get(`/devices/${devEui}/decode-jobs`);
    const job = items.find((one) => one.id === jobId);
    if (job) onState(job);
    if (job && job.state !== "waiting") return;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function AdoptForm({ device, types, onAdopted }) {
  const problem = useSignal("");
  const busy = useSignal(false);
  const variables = useSignal("");
  const chooseType = ({ currentTarget: { value } }) => {
    const names = variableNames(types.find((type) => type.id === value)?.mapping);
    variables.value = names.map((name) => `${name} = `).join("\n");
  };
  async function send(event) {
    event.preventDefault();
    const form = Object.fromEntries(new FormData(event.currentTarget));
    problem.value = "";
    busy.value = true;
    try {
      const body = { device_type: form.device_type, variables: parseVariables(form.variables) };
      if (form.name.trim()) body.name = form.name.trim();
      if (form.station) body.station = form.station;
      onAdopted(device, await post(`/devices/${device.dev_eui}/adopt`, body));
    } catch (error) {
      problem.value = error instanceof RangeError ? t("adopt.bad_variable", { line: error.message }) : error.text;
      busy.value = false;
    }
  }
  return html`
    <form class="adopt-form" onSubmit=${send} data-testid=${`adopt-form-${device.dev_eui}`}>
      <label>${t("adopt.type")} <select name="device_type" required onChange=${chooseType}>
        <option value="">${t("adopt.choose")}</option>
        ${types.map((type) => html`<option value=${type.id}>${type.vendor} ${type.model}</option>`)}</select></label>
      <label>${t("adopt.station")} <select name="station">
        <option value="">${t("adopt.no_station")}</option>
        ${stations.value.map((station) => html`<option value=${station.code}>${stationName(station)}</option>`)}</select></label>
      <label>${t("adopt.name")} <input name="name" maxlength="200" defaultValue=${device.name} /></label>
      <label>${t("adopt.variables")}
        <textarea name="variables" rows="2" placeholder="sensor_elevation_m = 110,25" value=${variables}
          onInput=${(event) => { variables.value = event.currentTarget.value; }}></textarea>
        <small class="muted">${t("adopt.variables_hint")}</small></label>
      <p class="buttons"><button type="submit" class="primary" disabled=${busy.value}>${t("adopt.send")}</button></p>
      ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
    </form>`;
}

function DeviceRow({ device, types, onAdopted }) {
  const open = useSignal(false);
  return html`
    <li class="card device-row" data-testid=${`device-row-${device.dev_eui}`}>
      <div class="card-head">
        <div><h2><code>${device.dev_eui}</code></h2>
          <p class="muted">${_knownAs(device)}</p>
          <p class="muted">${t("station.seen", { ago: ago(device.seen_at, now.value) })}</p></div>
        <button type="button" class=${open.value ? "" : "primary"} aria-expanded=${open.value}
          onClick=${() => { open.value = !open.value; }}>${t(open.value ? "cancel" : "adopt")}</button>
      </div>
      ${open.value && html`<${AdoptForm} device=${device} types=${types} onAdopted=${onAdopted} />`}
    </li>`;
}

function Adopted({ entries }) {
  if (!entries.length) return null;
  return html`
    <ul class="adopted" role="status">
      ${entries.map(({ device, job }) => html`
        <li key=${device.dev_eui} class="note"><code>${device.dev_eui}</code> ${" "}
          ${t(`adopt.job.${job.state}`, { frames: job.frames ?? 0, readings: job.readings ?? 0, error: job.error ?? "" })}</li>`)}
    </ul>`;
}

/** `#/devices`, for engineers. */
export function DevicesView() {
  const devices = useSignal(null);
  const types = useSignal([]);
  const adopted = useSignal([]);
  const problem = useSignal(null);
  const failed = (error) => { problem.value = error; };
  const load = () => list("/devices", { status: "unregistered" }).then(
    ({ items }) => { devices.value = items; problem.value = null; }, failed);
  useEffect(() => {
    if (!can("engineer")) return undefined;
    load();
    list("/device-types").then(({ items }) => { types.value = items; }, failed);
    const timer = setInterval(load, RELOAD_MS);
    return () => clearInterval(timer);
  }, []);
  if (!can("engineer")) return html`<p class="empty">${t("devices.needs_engineer")}</p>`;

  function onAdopted(device, answer) {
    const show = (job) => {
      adopted.value = [{ device, job }, ...adopted.value.filter((one) => one.device.dev_eui !== device.dev_eui)];
    };
    devices.value = devices.value.filter((one) => one.dev_eui !== device.dev_eui);
    show(answer.decode_job);
    _decoded(device.dev_eui, answer.decode_job.id, show).then(refreshSoon, failed);
  }
  return html`
    <div class="page">
      <header class="page-head"><h1>${t("devices.unregistered")}</h1></header>
      <p class="muted">${t("devices.hint")}</p>
      <${Adopted} entries=${adopted.value} />
      ${problem.value && html`<p class="problem" role="alert">${problem.value.text}</p>`}
      ${devices.value?.length === 0 && html`<p class="empty">${t("devices.none")}</p>`}
      <ul class="device-list">
        ${(devices.value ?? []).map((device) => html`
          <${DeviceRow} key=${device.dev_eui} device=${device} types=${types.value} onAdopted=${onAdopted} />`)}
      </ul>
    </div>`;
}
