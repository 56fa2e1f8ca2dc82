/* Keeps a page current, counts its times on, and sends what its buttons order. No library, nothing inline.

   A live section, <section id data-live>, is replaced when the server sends other HTML for it, unless one is typing or
   pressing a button in it. <time datetime data-ago|data-until|data-past|data-clock> is written anew each second. <button data-post> asks for the
   fields of data-fields and sends them with data-body; with data-count it shows that number of a dry run first. */
"use strict";
(() => {
  const STALE_MS = 12_000, EVERY_MS = 1_000, FOLLOW_MS = 200;
  const meta = (name, page = document) => page.querySelector(`meta[name="${name}"]`)?.content ?? "";
  const byId = (id) => document.getElementById(id);

  let skew = Number(meta("rlm-now")) * 1000 - Date.now(); // the server's clock less that of this machine
  let heardAt = Date.now(); // of anything from the server
  let goodAt = Date.now(); // of what is shown
  let trouble = byId("trouble").textContent;
  let failed = 0; // tries to reach the server, in a row
  let address = location.href; // what is shown, and asked for again
  let spoken; // the value of the last `data-spoken`
  const shown = new Map(); // by id, the HTML that was put there last
  const postponed = new Map(); // and what waits until nobody types there

  /* Times. A time of day names its zone, because sentences have theirs in UTC. */
  const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short" };
  const two = (number) => String(number).padStart(2, "0");
  function span(seconds) {
    if (seconds < 59.5) return `${Math.round(seconds)} s`;
    if (seconds < 3599.5) return `${Math.floor(Math.round(seconds) / 60)}:${two(Math.round(seconds) % 60)} min`;
    const minutes = Math.round(seconds / 60);
    return seconds < 172_800 ? `${Math.floor(minutes / 60)}:${two(minutes % 60)} h` : `${(seconds / 86_400).toFixed(1)} d`;
  }
  function countdown(seconds) {
    const left = Math.ceil(Math.max(0, seconds)), hours = Math.floor(left / 3600);
    return `${hours ? `${hours}:${two(Math.floor(left / 60) % 60)}` : Math.floor(left / 60)}:${two(left % 60)}`;
  }
  function writeTime(one) {
    const then = new Date(one.dateTime), seconds = (Date.now() + skew - then) / 1000;
    if (Number.isNaN(seconds)) return;
    let text;
    if ("until" in one.dataset) text = countdown(-seconds);
    else if ("past" in one.dataset) text = countdown(seconds);
    else if ("in" in one.dataset) text = seconds < 0 ? `in ${span(-seconds)}` : "now";
    else if ("clock" in one.dataset) text = then.toLocaleString(undefined, seconds < 43_200 ? CLOCK : { day: "numeric", month: "short", ...CLOCK });
    else text = `${span(Math.max(0, seconds))} ago`;
    if (one.textContent !== text) one.textContent = text;
    if (!one.title) one.title = then.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
  const writeTimes = (within) => within.querySelectorAll("time[datetime]").forEach(writeTime);

  /* Live sections. */
  function isUsed(section) {
    const active = document.activeElement;
    if (section.matches(":active")) return true; // a click on what is replaced in between would be lost
    if (active !== document.body && section.contains(active) && active.matches("input, select, textarea")) return true;
    const chosen = getSelection();
    return Boolean(chosen && !chosen.isCollapsed && section.contains(chosen.anchorNode));
  }
  /* The element that replaced another: it has the same id, or orders the same. */
  function successor({ id, dataset: { post, body } }) {
    const orders = document.querySelectorAll("button[data-post]");
    return byId(id) ?? [...orders].find((one) => one.dataset.post === post && one.dataset.body === body);
  }
  function put(section, html) {
    const focused = section.contains(document.activeElement) ? document.activeElement : null;
    const scrolled = [...section.querySelectorAll("[data-scroll]")].map((one) => one.scrollLeft);
    section.innerHTML = html;
    writeTimes(section);
    section.querySelectorAll("[data-scroll]").forEach((one, at) => { one.scrollLeft = scrolled[at] ?? 0; });
    if (focused) successor(focused)?.focus({ preventScroll: true });
    const said = section.querySelector("[data-spoken]");
    if (said && said.dataset.spoken !== spoken) {
      if (spoken !== undefined) byId("spoken").textContent = said.textContent;
      spoken = said.dataset.spoken;
    }
  }
  function show(sections) {
    for (const [id, html] of sections) {
      const section = byId(id);
      if (!section) return loadAnew();
      if (isUsed(section)) postponed.set(id, html);
      else {
        postponed.delete(id);
        if (shown.get(id) !== html) put(section, html);
        shown.set(id, html);
      }
    }
  }
  function showPostponed() {
    show([...postponed]);
  }
  function loadAnew() {
    const before = Number(sessionStorage.getItem("rlm-loaded"));
    if (byId("ask").open || Date.now() - before < STALE_MS / 2) return;
    sessionStorage.setItem("rlm-loaded", Date.now());
    location.reload();
  }
  function receive(page) {
    heardAt = Date.now();
    failed = 0;
    const server = meta("rlm-server", page);
    if (server && server !== meta("rlm-server")) return loadAnew();
    trouble = server ? page.getElementById("trouble").textContent : "this page cannot be made; the log of rlm web says why";
    if (server) skew = Number(meta("rlm-now", page)) * 1000 - heardAt;
    if (!trouble) {
      goodAt = heardAt;
      show([...page.querySelectorAll("[data-live]")].map((one) => [one.id, one.innerHTML]));
    }
    writeTrouble();
  }
  function writeTrouble() {
    const silent = failed > 1 || Date.now() - heardAt > STALE_MS;
    const why = silent ? "rlm web does not answer" : trouble;
    const box = byId("trouble");
    box.hidden = !why;
    const old = document.querySelector("[data-live]") ? `; shown is what was so ${span((Date.now() - goodAt) / 1000)} ago` : "";
    const text = why && `${why.replaceAll("`", "")}${old}`;
    if (box.textContent !== text) box.textContent = text;
    document.body.classList.toggle("stale", Boolean(why));
  }

  /* Asks for the page again once a second, while it is visible. */
  let next;
  async function look() {
    clearTimeout(next);
    if (document.hidden) return;
    const asked = address;
    try {
      const answer = await fetch(asked, { headers: { Accept: "text/html" } });
      if (answer.status === 401 || answer.redirected) loadAnew();
      else {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (asked === address) receive(page);
      }
    } catch {
      failed += 1; // once is no trouble
    }
    clearTimeout(next);
    next = setTimeout(look, EVERY_MS);
  }
  function watch() {
    writeTimes(document);
    look();
  }

  /* A form that is asked again as one types or drags. Its address follows once that is settled, for the link. */
  function addressOf(form) {
    const told = [...new FormData(form)].filter(([name, value]) => form.elements[name].dataset?.today !== value);
    return `${location.pathname}?${new URLSearchParams(told)}`;
  }
  let following;
  document.addEventListener("input", ({ target }) => {
    const form = target.closest("form[data-follow]");
    if (!form) return;
    target.closest(".twins")?.querySelectorAll("input").forEach((one) => { if (one !== target) one.value = target.value; });
    const implied = target.closest("[data-implies]")?.dataset.implies;
    if (implied) byId(implied).checked = true;
    following ??= setTimeout(() => {
      following = undefined;
      address = addressOf(form);
      look();
    }, FOLLOW_MS);
  });
  document.addEventListener("change", ({ target }) => {
    const form = target.closest("form[data-follow]");
    if (form) history.replaceState(null, "", addressOf(form));
  });

  /* Writes. */
  const dialog = byId("ask");
  let asked = null;
  let most = {}; // how many the dialog has shown: no more are dealt with
  function ask(button) {
    asked = button;
    most = {};
    dialog.querySelector("h2").textContent = button.dataset.ask || button.textContent;
    dialog.querySelector(".note").textContent = button.dataset.note || "";
    dialog.querySelector(".fault").hidden = true;
    const fields = dialog.querySelector(".fields");
    fields.replaceChildren();
    for (const name of (button.dataset.fields || "").split(" ").filter(Boolean)) {
      const field = document.querySelector(`template[data-field="${name}"]`).content.cloneNode(true);
      const input = field.querySelector(`[name="${name}"]`);
      if (button.dataset[name]) input.value = button.dataset[name];
      fields.append(field);
    }
    dialog.querySelector("[type=submit]").textContent = button.textContent;
    dialog.querySelector("[type=submit]").disabled = false;
    dialog.showModal();
    if (button.dataset.count) count(button);
  }
  /* How many it would be, counted by the server at this moment: nothing is sent before that is shown. */
  async function count(button) {
    const submit = dialog.querySelector("[type=submit]"), fault = dialog.querySelector(".fault");
    submit.disabled = true;
    let why, told = {};
    try {
      [why, told] = await send(button.dataset.post, { ...bodyOf(dialog, button), dry_run: true });
    } catch {
      why = "rlm web does not answer";
    }
    if (asked !== button) return;
    const number = told[button.dataset.count], left = (told.would_be_left ?? 0) + (told.would_be_refused ?? 0);
    most = { most: number + left };
    fault.textContent = why;
    fault.hidden = !why;
    if (why) return;
    const besides = left ? ` ${left} more would be left as they are: they cannot succeed.` : "";
    dialog.querySelector(".note").textContent = `${number} counted just now.${besides} ${button.dataset.note || ""}`;
    submit.disabled = !number;
  }
  function bodyOf(form, button) {
    const body = JSON.parse(button.dataset.body || "{}");
    for (const input of form.querySelectorAll(".fields [name]")) {
      const value = input.type === "checkbox" ? input.checked : input.value.trim();
      if (value !== "") body[input.name] = input.type === "number" ? Number(value) : value;
    }
    return body;
  }
  async function send(path, body) {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": meta("csrf-token") },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    let told = {};
    try {
      told = JSON.parse(text);
    } catch { /* it is no document */ }
    if (answer.status === 403 && told.error) told.error += ` ${told.remedy}`;
    return answer.ok ? ["", told] : [told.error ?? told.detail ?? (text || `HTTP ${answer.status}`), told];
  }
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const fault = dialog.querySelector(".fault"), form = event.target;
    if (form.classList.contains("busy")) return; // Enter was pressed twice
    form.classList.add("busy");
    try {
      const [why, told] = await send(asked.dataset.post, { ...bodyOf(form, asked), ...most }), refused = told.refused ?? [];
      fault.textContent = why || (refused.length ? `${refused.length} refused: ${refused[0].reason}` : "");
    } catch {
      fault.textContent = "rlm web does not answer; nothing is known of what became of this";
    }
    form.classList.remove("busy");
    fault.hidden = !fault.textContent;
    if (fault.hidden) {
      dialog.close();
      say(asked.dataset.said || `Done: ${dialog.querySelector("h2").textContent}`);
    }
  });
  dialog.querySelector("[value=cancel]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { if (!asked.isConnected) successor(asked)?.focus(); });
  let hush;
  function say(text) {
    const said = byId("said");
    said.textContent = text;
    said.hidden = false;
    clearTimeout(hush);
    hush = setTimeout(() => { said.hidden = true; }, 6000);
  }

  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button[data-post]"), leave = target.closest("button[data-leave]")?.dataset.leave;
    if (button) ask(button);
    if (leave) {
      await send(leave, {}).catch(() => {}); // the next page asks for the token, or says what is the matter
      location.assign("/");
    }
  });
  document.addEventListener("focusout", () => setTimeout(showPostponed));
  document.addEventListener("keydown", (event) => {
    const search = document.querySelector("[role=search] input");
    if (event.key !== "/" || !search || event.target.closest("input, select, textarea, dialog")) return;
    event.preventDefault();
    search.focus();
  });
  document.addEventListener("visibilitychange", watch);
  setInterval(() => {
    writeTimes(document);
    showPostponed();
    if (!document.hidden) writeTrouble();
  }, 1000);
  watch();
})();
