// What the page knows, and the only code that changes it.
import { computed, signal } from "./lib.js";
import { get, list, Problem, request, withQuery } from "./api.js";

const ROLES = ["viewer", "operator", "engineer", "admin"];
const RECENT_ALERTS = 100;
const REFRESH_AFTER_MS = 500;
const RESYNC_AFTER_MS = 100;

export const session = signal(null);
export const stations = signal([]);
export const metrics = signal({});
export const alerts = signal(new Map());
export const moreAlerts = signal(null);
export const connection = signal("connecting");
export const failure = signal(null);
/** The newest batch of readings from the stream. */
export const readingBatch = signal([]);
/** Grows whenever everything was fetched again: what was shown before may have a hole. */
export const resynced = signal(0);
export const now = signal(Date.now());
export const route = signal(_parseRoute());

setInterval(() => { now.value = Date.now(); }, 5000);
window.addEventListener("hashchange", () => { route.value = _parseRoute(); });

function _parseRoute() {
  const [view, argument] = window.location.hash.replace(/^#\//, "").split("/").map(decodeURIComponent);
  return { view: view || "overview", argument };
}

export const can = (role) => ROLES.indexOf(session.value?.role) >= ROLES.indexOf(role);
export const anySimulated = computed(() => stations.value.some((station) => station.simulated));
export const worstStation = computed(() =>
  stations.value.reduce((worst, one) => (one.state.level > (worst?.state.level ?? 0) ? one : worst), null));
export const sortedAlerts = computed(() =>
  [...alerts.value.values()].sort((a, b) => (a.opened_at < b.opened_at ? 1 : -1)));
export const firingAlerts = computed(() => sortedAlerts.value.filter((alert) => alert.state === "firing"));
export const unseenAlerts = computed(() => firingAlerts.value.filter((alert) => !alert.acked_at));

const _series = (reading) => `${reading.dev_eui}|${reading.metric}|${reading.channel}`;

function _withReadings(station, batch) {
  const latest = new Map(station.latest.map((reading) => [_series(reading), reading]));
  let seen = station.state.seen_at ?? "";
  for (const reading of batch) {
    const old = latest.get(_series(reading));
    if (!old || Date.parse(reading.time) >= Date.parse(old.time)) {
      latest.set(_series(reading), { unit: metrics.value[reading.metric]?.unit, ...old, ...reading });
    }
    if (!seen || Date.parse(reading.time) > Date.parse(seen)) seen = reading.time;
  }
  return { ...station, latest: [...latest.values()], state: { ...station.state, seen_at: seen } };
}

function _merge(batch) {
  const byStation = _byStation(batch);
  stations.value = stations.value.map((station) =>
    byStation.has(station.code) ? _withReadings(station, byStation.get(station.code)) : station);
  return byStation;
}

function _byStation(batch) {
  const groups = new Map();
  for (const reading of batch) groups.set(reading.station, [...(groups.get(reading.station) ?? []), reading]);
  return groups;
}

const arriving = new Set(); // one list for each request under way

/** Takes a batch from the stream into the latest values. */
export function takeReadings(batch) {
  for (const arrived of arriving) arrived.push(...batch);
  const byStation = _merge(batch);
  readingBatch.value = batch;
  const healthy = stations.value.filter((one) => one.state.health === "ok").map((one) => one.code);
  // Health is the server's to judge: ask when someone came back or appeared.
  if ([...byStation.keys()].some((code) => code && !healthy.includes(code))) refreshSoon();
}

/** Takes an alert, unless a newer state of it is known already. */
export function takeAlert(alert) {
  const old = alerts.value.get(alert.id);
  if (old && old.seq > alert.seq) return;
  alerts.value = new Map(alerts.value).set(alert.id, alert);
  refreshSoon();
}

/** Fetches the stations; readings that arrive during the request are not lost. */
export async function loadStations() {
  const arrived = [];
  arriving.add(arrived);
  try {
    stations.value = (await list("/stations")).items;
    _merge(arrived);
  } finally {
    arriving.delete(arrived);
  }
}

async function _loadAlerts() {
  const [firing, recent] = await Promise.all([
    list("/alerts", { state: "firing" }),
    get(withQuery("/alerts", { limit: RECENT_ALERTS })),
  ]);
  alerts.value = new Map([...recent.items, ...firing.items].map((alert) => [alert.id, alert]));
  moreAlerts.value = recent.next;
}

/** Adds the next page of older alerts. */
export async function loadMoreAlerts() {
  const page = await get(withQuery("/alerts", { limit: RECENT_ALERTS, cursor: moreAlerts.value }));
  const known = alerts.value;
  alerts.value = new Map([...page.items.map((alert) => [alert.id, alert]), ...known]);
  moreAlerts.value = page.next;
}

let resyncTimer = 0;

/** Everything again, once for many reasons that come together. */
export function resyncSoon() {
  resyncTimer ||= setTimeout(resync, RESYNC_AFTER_MS);
}

/** Everything again: at the start, and after every time the stream was away. */
export async function resync() {
  clearTimeout(resyncTimer);
  resyncTimer = 0;
  try {
    if (!Object.keys(metrics.value).length) {
      const { items } = await list("/metrics-catalogue");
      metrics.value = Object.fromEntries(items.map((metric) => [metric.key, metric]));
    }
    await Promise.all([loadStations(), _loadAlerts()]);
    failure.value = null;
    resynced.value += 1;
  } catch (problem) {
    _report(problem);
  }
}

let refreshTimer = 0;

/** The stations again, once for many reasons that come together. */
export function refreshSoon() {
  if (refreshTimer) return;
  refreshTimer = setTimeout(() => {
    refreshTimer = 0;
    loadStations().then(() => { failure.value = null; }, _report);
  }, REFRESH_AFTER_MS);
}

function _report(problem) {
  if (!(problem instanceof Problem)) throw problem;
  if (problem.status !== 401) failure.value = problem;
}

/** Who is signed in; leaves for the login page when nobody is. */
export async function loadSession() {
  session.value = await request("GET", "/session");
}
