// The HTTP interface of Quantrac, with its errors made readable.
import { known, t } from "./i18n.js";

const BASE = "/api/v1";
const PAGE = 1000;
// What the page says of these is all there is to say.
const SELF_EXPLAINING = [401, 404, 429, 503];

/** A problem-details answer (RFC 9457), or a request that never got one (`status` 0). */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail || body.title || "");
    this.status = status;
    this.type = body.type || "";
    this.retryAfter = body.retryAfter;
    this.errors = Array.isArray(body.errors) ? body.errors : [];
  }

  /** One sentence for the reader; the server's own words where they add something, and only once. */
  get text() {
    const key = `error.${this.status}`;
    const lead = t(known(key) ? key : "error.other", { status: this.status, seconds: this.retryAfter ?? "?" });
    if (SELF_EXPLAINING.includes(this.status)) return lead;
    const fields = this.errors.map((error) => `${error.field}: ${error.problem}`); // the detail repeats them
    return [lead, ...(fields.length ? fields : [this.message])].filter(Boolean).join(" · ");
  }
}

let onMustChange = () => {};
/** Calls `callback` whenever the server insists on a new password first. */
export const whenPasswordMustChange = (callback) => { onMustChange = callback; };

/** Leaves for the login page, which comes back to where the reader was. */
export function goToLogin() {
  window.location.assign(`/login?next=${encodeURIComponent(window.location.hash)}`);
}

async function _problem(response) {
  const body = await response.json().catch(() => ({}));
  const problem = new Problem(response.status, { ...body, retryAfter: response.headers.get("Retry-After") });
  if (problem.type.endsWith("/must-change-password")) onMustChange();
  return problem;
}

/**
 * Sends one request; `body` goes as JSON. Answers the JSON of the response, null when it has none.
 * Throws a Problem. Without a session it leaves for the login page unless `stay` is set.
 */
export async function request(method, path, body, { stay = false } = {}) {
  const options = { method, headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(BASE + path, options).catch(() => { throw new Problem(0); });
  if (response.status === 401 && !stay) goToLogin();
  if (!response.ok) throw await _problem(response);
  return response.status === 204 ? null : response.json().catch(() => null);
}

export const get = (path) => request("GET", path);
export const post = (path, body = {}) => request("POST", path, body);

/** A path with the query parameters that have a value. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** Every item of a list, page by page; `complete` is false when `maxPages` were not enough. */
export async function list(path, parameters = {}, maxPages = 20) {
  const items = [];
  let cursor;
  for (let page = 0; page < maxPages; page += 1) {
    const answer = await get(withQuery(path, { limit: PAGE, ...parameters, cursor }));
    items.push(...answer.items);
    cursor = answer.next;
    if (!cursor) return { items, complete: true };
  }
  return { items, complete: false };
}

export const streamUrl = `${BASE}/stream`;
