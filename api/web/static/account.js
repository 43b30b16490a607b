// The signed-in account: its menu, its password, and the way out.
import { html, useEffect, useRef, useSignal } from "./lib.js";
import { lang, t } from "./i18n.js";
import { goToLogin, request } from "./api.js";
import { session } from "./store.js";

const LEAST_PASSWORD = 10;
const MOST_PASSWORD = 1024;
const LANGUAGES = { vi: "Tiếng Việt", en: "English" };

async function _logOut() {
  await request("POST", "/logout", {}, { stay: true }).catch(() => {});
  goToLogin();
}

/** Vietnamese or English. */
export const LanguageSwitch = () => html`
  <div class="segments small" role="group" aria-label=${t("language")} data-testid="lang-switch">
    ${Object.keys(LANGUAGES).map((code) => html`
      <button type="button" lang=${code} aria-pressed=${lang.value === code} aria-label=${LANGUAGES[code]}
        onClick=${() => { lang.value = code; }}>${code.toUpperCase()}</button>`)}
  </div>`;

function Field({ name, label, autocomplete, least, hint }) {
  return html`<label>${label}
    <input type="password" name=${name} required minlength=${least} maxlength=${MOST_PASSWORD} autocomplete=${autocomplete} />
    ${hint && html`<small class="muted">${hint}</small>`}</label>`;
}

/** What is wrong with the filled form as far as the page can tell, "" for nothing. */
function _fault({ old, new: wanted, again }) {
  if ([...wanted].length < LEAST_PASSWORD) return t("password.short", { n: LEAST_PASSWORD });
  if (wanted === old) return t("password.same");
  return wanted === again ? "" : t("password.differ");
}

const _refusal = (problem) =>
  (problem.status === 422 && problem.errors.some((error) => error.field === "old") ? t("password.wrong_old") : problem.text);

/** Asks for the old password and twice for the new one; `onDone` after the server took it. */
export function PasswordForm({ onDone, onCancel }) {
  const problem = useSignal("");
  const busy = useSignal(false);
  async function send(event) {
    event.preventDefault();
    const form = Object.fromEntries(new FormData(event.currentTarget));
    problem.value = _fault(form);
    if (problem.value) return;
    busy.value = true;
    try {
      await request("POST", "/password", { old: form.old, new: form.new }, { stay: true });
      onDone();
    } catch (error) {
      problem.value = _refusal(error);
    }
    busy.value = false;
  }
  return html`
    <form class="password-form" onSubmit=${send} noValidate data-testid="password-form">
      <input type="text" name="username" autocomplete="username" value=${session.value?.login} hidden readonly />
      <${Field} name="old" label=${t("password.old")} autocomplete="current-password" />
      <${Field} name="new" label=${t("password.new")} autocomplete="new-password"
        least=${LEAST_PASSWORD} hint=${t("password.rule", { n: LEAST_PASSWORD })} />
      <${Field} name="again" label=${t("password.again")} autocomplete="new-password" least=${LEAST_PASSWORD} />
      ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
      <p class="buttons">
        <button type="submit" class="primary" disabled=${busy.value}>${t("password.send")}</button>
        ${onCancel && html`<button type="button" onClick=${onCancel}>${t("cancel")}</button>`}
      </p>
    </form>`;
}

/** What the first login sees until the password is a new one. */
export const MustChangePassword = ({ onDone }) => html`
  <main class="sign-in"><div class="card">
    <div class="card-head"><h1>${t("password.must_title")}</h1><${LanguageSwitch} /></div>
    <p class="muted">${t("password.must_change")}</p>
    <${PasswordForm} onDone=${onDone} />
    <p class="buttons"><button type="button" class="link" onClick=${_logOut}>${t("account.log_out")}</button></p>
  </div></main>`;

function PasswordDialog({ onClose }) {
  const dialog = useRef(null);
  const done = useSignal(false);
  useEffect(() => dialog.current.showModal(), []);
  const close = () => dialog.current.close();
  return html`
    <dialog class="card" ref=${dialog} onClose=${onClose} aria-label=${t("account.password")}>
      <h2>${t("account.password")}</h2>
      ${done.value
        ? html`<p role="status">${t("password.done")}</p><p class="buttons"><button type="button" onClick=${close}>${t("close")}</button></p>`
        : html`<${PasswordForm} onDone=${() => { done.value = true; }} onCancel=${close} />`}
    </dialog>`;
}

export function AccountMenu() {
  const changing = useSignal(false);
  const menu = useRef(null);
  useEffect(() => {
    const close = (event) => {
      if (event.type === "keydown" ? event.key === "Escape" : !menu.current.contains(event.target)) menu.current.open = false;
    };
    document.addEventListener("click", close);
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("click", close);
      document.removeEventListener("keydown", close);
    };
  }, []);
  const change = () => { menu.current.open = false; changing.value = true; };
  return html`
    <details class="menu" ref=${menu} data-testid="account-menu">
      <summary>${session.value.login}</summary>
      <div class="menu-body">
        <p class="muted">${t(`role.${session.value.role}`)}</p>
        <button type="button" onClick=${change}>${t("account.password")}</button>
        <button type="button" onClick=${_logOut} data-testid="log-out">${t("account.log_out")}</button>
      </div>
    </details>
    ${changing.value && html`<${PasswordDialog} onClose=${() => { changing.value = false; }} />`}`;
}
