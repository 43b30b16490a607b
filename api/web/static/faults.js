// Faults of Quantrac itself: as long as one goes on, what the page shows may be older than it seems.
import { effect, html, signal } from "./lib.js";
import { get, Problem, withQuery } from "./api.js";
import { dateTime } from "./format.js";
import { known, t } from "./i18n.js";
import { can, resynced } from "./store.js";

const REFRESH_MS = 60_000;
const SHOWN = 3;

export const faults = signal([]);

/** What a reader is told of a fault: in the reader's language where its kind is known, else the server's words. */
export function told(fault) {
  const key = `fault.${fault.kind}`;
  return known(key) ? t(key, { subject: fault.subject, since: dateTime(fault.began_at) }) : fault.detail;
}

async function _load() {
  try {
    faults.value = (await get(withQuery("/health-alerts", { open: true }))).items;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem; // the page says already that the server is away
  }
}

effect(() => { if (resynced.value) _load(); });
setInterval(() => { if (resynced.peek()) _load(); }, REFRESH_MS);

export function Faults() {
  const more = faults.value.length - SHOWN;
  return faults.value.length > 0 && html`
    <div class="banner banner-failure" role="alert" data-testid="faults-banner">
      <ul class="faults">
        ${faults.value.slice(0, SHOWN).map((fault) => html`
          <li key=${fault.id}>${told(fault)}${can("engineer") && fault.cure && html` <small>${fault.cure}</small>`}</li>`)}
        ${more > 0 && html`<li>${t("fault.more", { n: more })}</li>`}
      </ul>
    </div>`;
}
