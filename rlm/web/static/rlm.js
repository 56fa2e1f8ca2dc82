/* Keeps a page current, counts its times on, and sends what its buttons order.

   The page is asked for again each second; a section with data-live is replaced when its HTML is another, unless one is
   typing or pressing a button in it. A button with data-post asks for the fields of data-fields and sends them with
   data-body. */
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const meta = (name, page = document) => page.querySelector(`meta[name="${name}"]`)?.content ?? "";
  let skew = Number(meta("rlm-now")) * 1000 - Date.now(); // the server's clock less that of this machine
  let goodAt = Date.now(); // of what is shown
  let trouble = byId("trouble").textContent;
  let failed = 0; // tries to reach the server, in a row
  let spoken; // the last `data-spoken`
  const shown = new Map(); // by id, the HTML that was put there last

  /* Times. A time of day names its zone, because sentences have theirs in UTC. */
  const CLOCK = { timeStyle: "long", hourCycle: "h23" };
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  function span(seconds) {
    if (seconds < 59.5) return `${Math.round(seconds)} s`;
    if (seconds < 3599.5) return `${Math.floor(seconds / 60)}:${two(seconds % 60)} min`;
    return seconds < 172_800 ? `${Math.floor(seconds / 3600)}:${two((seconds / 60) % 60)} h` : `${(seconds / 86_400).toFixed(1)} d`;
  }
  function countdown(seconds) {
    const left = Math.ceil(Math.max(0, seconds));
    return `${Math.floor(left / 60)}:${two(left % 60)}`;
  }
  function writeTimes(within) {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const then = new Date(time.dateTime), seconds = (Date.now() + skew - then) / 1000, { dataset } = time;
      if (Number.isNaN(seconds)) continue;
      let text = `${span(Math.max(0, seconds))} ago`;
      if ("until" in dataset) text = countdown(-seconds);
      else if ("clock" in dataset) text = then.toLocaleString(undefined, seconds < 43_200 ? CLOCK : { dateStyle: "medium", ...CLOCK });
      if (time.textContent !== text) time.textContent = text;
    }
  }

  /* Live sections. */
  function isUsed(section) {
    const active = document.activeElement, chosen = getSelection();
    if (section.matches(":active")) return true; // a click on what is replaced in between would be lost
    if (section.contains(active) && active.matches("input, select")) return true;
    return chosen && !chosen.isCollapsed && section.contains(chosen.anchorNode);
  }
  function put(section, html) {
    const { id } = section.contains(document.activeElement) ? document.activeElement : section;
    section.innerHTML = html;
    writeTimes(section);
    if (id !== section.id) byId(id)?.focus({ preventScroll: true });
    const words = section.querySelector("[data-spoken]");
    if (words && words.dataset.spoken !== spoken) {
      if (spoken !== undefined) byId("spoken").textContent = words.textContent;
      spoken = words.dataset.spoken;
    }
  }
  function loadAnew() {
    if (byId("ask").open || Date.now() - Number(sessionStorage.getItem("rlm-loaded")) < 6_000) return;
    sessionStorage.setItem("rlm-loaded", Date.now());
    location.reload();
  }
  function receive(page) {
    failed = 0;
    const box = page.getElementById("trouble");
    if (box && meta("csrf-token", page) !== meta("csrf-token")) return loadAnew(); // another process serves it now
    trouble = box ? box.textContent : "this page cannot be made; the log of rlm web says why";
    if (trouble) return;
    skew = Number(meta("rlm-now", page)) * 1000 - Date.now();
    goodAt = Date.now();
    for (const { id, innerHTML } of page.querySelectorAll("[data-live]")) {
      const section = byId(id);
      if (!section) return loadAnew();
      if (shown.get(id) === innerHTML || isUsed(section)) continue;
      put(section, innerHTML);
      shown.set(id, innerHTML);
    }
  }
  function writeTrouble() {
    const why = failed > 1 ? "rlm web does not answer" : trouble, box = byId("trouble");
    const old = document.querySelector("[data-live]") ? `; shown is what was so ${span((Date.now() - goodAt) / 1000)} ago` : "";
    const text = why && `${why}${old}`;
    if (box.textContent !== text) box.textContent = text;
    box.hidden = !why;
  }

  let asking = false, askedAt = 0;
  async function look() {
    if (asking || document.hidden) return;
    asking = true;
    askedAt = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(6_000) });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.status === 401 || answer.redirected) loadAnew();
      else receive(page);
    } catch {
      failed += 1; // once is no trouble
    }
    asking = false;
    writeTrouble();
  }

  /* A form that is asked once a slider or a field is let go; the other of the two follows. */
  document.addEventListener("input", ({ target }) => {
    target.closest(".twins")?.querySelectorAll("input").forEach((twin) => { twin.value = target.value; });
    const implied = target.closest("[data-implies]")?.dataset.implies;
    if (implied) byId(implied).checked = true;
  });
  document.addEventListener("change", ({ target }) => target.closest("form[data-follow]")?.requestSubmit());

  /* Orders. */
  const dialog = byId("ask"), form = dialog.querySelector("form"), fault = dialog.querySelector(".fault");
  let ordered; // the button
  function ask(button) {
    ordered = button;
    const { dataset } = button, names = [dataset.fields];
    byId("ask-title").textContent = dataset.ask;
    dialog.querySelector(".note").textContent = dataset.note;
    dialog.querySelector("[type=submit]").textContent = button.textContent;
    fault.hidden = true;
    for (const input of dialog.querySelectorAll("input")) {
      input.value = dataset[input.name] ?? "";
      input.disabled = input.parentElement.hidden = !names.includes(input.name);
    }
    dialog.showModal();
  }
  async function send(path, body) {
    const headers = { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": meta("csrf-token") };
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    const text = await answer.text();
    const { error, remedy, refused } = text.startsWith("{") ? JSON.parse(text) : { error: text, remedy: "" };
    if (answer.ok) return refused?.length ? `${refused.length} refused: ${refused[0].reason}` : "";
    return `${error} ${remedy}`;
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.classList.contains("busy")) return; // Enter was pressed twice
    form.classList.add("busy");
    const body = JSON.parse(ordered.dataset.body ?? "{}");
    for (const [name, value] of new FormData(form)) {
      if (value.trim()) body[name] = form.elements[name].type === "number" ? Number(value) : value.trim();
    }
    try {
      fault.textContent = await send(ordered.dataset.post, body);
    } catch {
      fault.textContent = "rlm web does not answer; nothing is known of what became of this";
    }
    form.classList.remove("busy");
    fault.hidden = !fault.textContent;
    if (!fault.hidden) return;
    dialog.close();
    look();
  });
  dialog.querySelector("[value=cancel]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => byId(ordered.id)?.focus());
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button[data-post]");
    if (button) ask(button);
  });

  document.addEventListener("visibilitychange", look);
  setInterval(() => {
    writeTimes(document);
    // Fifty viewers that ask every second cost 8 % of a core.
    if (failed || trouble || Math.abs(Date.now() - askedAt) > 4_500) look();
  }, 1_000);
  writeTimes(document);
  look();
})();
