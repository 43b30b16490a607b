// The frame of the page: header, notices, and the view that the address names.
import { effect, html, render } from "./lib.js";
import { stationName, t } from "./i18n.js";
import { whenPasswordMustChange } from "./api.js";
import { AccountMenu, LanguageSwitch, MustChangePassword } from "./account.js";
import { AlertsView } from "./alerts.js";
import { DevicesView } from "./devices.js";
import { Faults } from "./faults.js";
import { LevelBadge } from "./levels.js";
import { connect } from "./live.js";
import { StationView } from "./station.js";
import { Overview } from "./stations.js";
import { anySimulated, can, connection, failure, loadSession, resync, route, session, stations,
  unseenAlerts, worstStation } from "./store.js";

const VIEWS = {
  overview: () => html`<${Overview} />`,
  stations: (code) => html`<${StationView} code=${code} />`,
  alerts: (id) => html`<${AlertsView} id=${id} />`,
  devices: () => html`<${DevicesView} />`,
};

const _view = () => (route.value.view in VIEWS ? route.value.view : "overview");

function _title() {
  if (session.value?.must_change) return t("password.must_title");
  if (_view() !== "stations") return t(`nav.${_view()}`);
  const { argument } = route.value;
  return stationName(stations.value.find((one) => one.code === argument)) || argument;
}

function NavLink({ view, children }) {
  const here = _view() === view || (view === "overview" && _view() === "stations");
  return html`<a href=${view === "overview" ? "#/" : `#/${view}`} aria-current=${here ? "page" : undefined}>${children}</a>`;
}

function Worst() {
  const worst = worstStation.value;
  return html`
    <a class="worst" href=${worst ? `#/stations/${encodeURIComponent(worst.code)}` : "#/alerts"} aria-label=${t("header.worst")}>
      <${LevelBadge} level=${worst?.state.level ?? 0} label=${worst?.state.label} />
      ${worst && html`<span>${stationName(worst)}</span>`}
    </a>`;
}

const Connection = () => html`
  <span class=${`connection connection-${connection.value}`} role="status" data-testid="connection">
    <i aria-hidden="true"></i>${t(`connection.${connection.value}`)}</span>`;

function Header() {
  const unseen = unseenAlerts.value.length;
  return html`
    <header class="top">
      <a class="brand" href="#/"><strong>Quantrac</strong><span>Quan trắc</span></a>
      <nav aria-label=${t("nav")}>
        <${NavLink} view="overview">${t("nav.overview")}<//>
        <${NavLink} view="alerts">${t("nav.alerts")}${unseen > 0 && html` <b class="count" aria-label=${t("alerts.unseen", { n: unseen })}>${unseen}</b>`}<//>
        ${can("engineer") && html`<${NavLink} view="devices">${t("nav.devices")}<//>`}
      </nav>
      <div class="top-state"><${Worst} /><${Connection} /></div>
      <div class="top-tools"><${LanguageSwitch} /><${AccountMenu} /></div>
    </header>`;
}

function Notices() {
  return html`
    <${Faults} />
    ${anySimulated.value && html`<p class="banner banner-simulated" role="note" data-testid="simulated-banner">${t("banner.simulated")}</p>`}
    ${failure.value && html`
      <p class="banner banner-failure" role="alert">${failure.value.text}
        <button type="button" onClick=${resync}>${t("retry")}</button></p>`}`;
}

function App() {
  if (session.value.must_change) return html`<${MustChangePassword} onDone=${_begin} />`;
  const { argument } = route.value;
  return html`
    <a class="skip" href="#main" onClick=${_skip}>${t("skip")}</a>
    <${Header} />
    <${Notices} />
    <main id="main" tabindex="-1" class=${`view-${_view()}`}>${VIEWS[_view()](argument)}</main>`;
}

/** A new view starts at its top, also for those who read with the keyboard or by ear. */
function _toTop() {
  window.scrollTo(0, 0);
  document.getElementById("main")?.focus({ preventScroll: true });
}

function _skip(event) {
  event.preventDefault(); // the address after # is the view's
  document.getElementById("main").focus();
}

let live = false;

async function _begin() {
  await loadSession();
  if (session.value.must_change || live) return;
  live = true;
  connect();
}

window.addEventListener("hashchange", _toTop);
whenPasswordMustChange(() => { session.value = { ...session.value, must_change: true }; });
effect(() => {
  const unseen = unseenAlerts.value.length;
  document.title = `${unseen ? `(${unseen}) ` : ""}${_title()} · Quantrac`;
});

function _boot() {
  _begin().then(
    () => render(html`<${App} />`, document.getElementById("app")),
    (problem) => {
      if (problem.status === 401) return;
      document.getElementById("app").textContent = problem.text;
      setTimeout(_boot, 5000);
    });
}
_boot();
