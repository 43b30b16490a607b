// The stream of server-sent events: keeps it open, and everything in step with it.
import { loadSession, connection, refreshSoon, resyncSoon, takeAlert, takeReadings } from "./store.js";
import { streamUrl } from "./api.js";

const SILENCE_MS = 45_000; // the server pings every 15 s
const FIRST_DELAY_MS = 1000;
const LAST_DELAY_MS = 30_000;
const HEALTH_EVERY_MS = 60_000; // a station grows late without any event

let source = null;
let heardAt = 0;
let delay = FIRST_DELAY_MS;

function _on(name, take) {
  source.addEventListener(name, (event) => {
    heardAt = Date.now();
    take(event.data);
  });
}

function _open() {
  source?.close();
  heardAt = Date.now();
  source = new EventSource(streamUrl);
  _on("open", () => {
    delay = FIRST_DELAY_MS;
    connection.value = "live";
    resyncSoon();
  });
  _on("resync", resyncSoon);
  _on("ping", () => {});
  _on("reading", (data) => takeReadings(JSON.parse(data)));
  _on("alert", (data) => takeAlert(JSON.parse(data)));
  source.addEventListener("error", _lost);
}

function _lost() {
  connection.value = "reconnecting";
  if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
  // A refusal carries no status here: asking for the session tells a lost login from a server that is down.
  setTimeout(() => loadSession().then(_open, _lost), delay);
  delay = Math.min(delay * 2, LAST_DELAY_MS) * (0.8 + 0.4 * Math.random());
}

/** Opens the stream for as long as the page lives. */
export function connect() {
  _open();
  setInterval(() => {
    if (source.readyState === EventSource.OPEN && Date.now() - heardAt > SILENCE_MS) {
      connection.value = "reconnecting";
      _open();
    }
  }, 5000);
  setInterval(() => { if (connection.value === "live") refreshSoon(); }, HEALTH_EVERY_MS);
}
