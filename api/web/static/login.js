// The login page.
import { effect, html, render, useSignal } from "./lib.js";
import { t } from "./i18n.js";
import { request } from "./api.js";
import { LanguageSwitch } from "./account.js";

/** Where the reader was: only a view of this page, never another address. */
function _next() {
  const next = new URLSearchParams(window.location.search).get("next") || window.location.hash;
  return next.startsWith("#/") ? `/${next}` : "/";
}

function _message(problem) {
  if (problem.status === 401) return t("login.wrong");
  if (problem.status === 429) return t("login.throttled", { seconds: problem.retryAfter ?? "?" });
  return problem.text;
}

function Login() {
  const problem = useSignal("");
  const busy = useSignal(false);
  async function send(event) {
    event.preventDefault();
    const form = Object.fromEntries(new FormData(event.currentTarget));
    busy.value = true;
    problem.value = "";
    try {
      await request("POST", "/login", { login: form.login, password: form.password }, { stay: true });
      window.location.assign(_next());
    } catch (error) {
      problem.value = _message(error);
      busy.value = false;
    }
  }
  return html`
    <main class="sign-in"><div class="card">
      <div class="card-head"><h1 class="brand"><strong>Quantrac</strong><span>Quan trắc</span></h1><${LanguageSwitch} /></div>
      <p class="muted">${t("login.lead")}</p>
      <form onSubmit=${send} data-testid="login-form">
        <label>${t("login.name")} <input name="login" required autocomplete="username" autocapitalize="none" spellcheck=${false} /></label>
        <label>${t("login.password")} <input type="password" name="password" required autocomplete="current-password" /></label>
        ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
        <p class="buttons"><button type="submit" class="primary" disabled=${busy.value}>${t("login.send")}</button></p>
      </form>
    </div></main>`;
}

effect(() => { document.title = `${t("login.send")} · Quantrac`; });
render(html`<${Login} />`, document.getElementById("app"));
