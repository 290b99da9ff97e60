// The frame of the console: who is logged in, which page is shown, and when it is looked up again.

import { ApiError, get, getIf, isLoggedIn, logout, path } from "./lib/api.js";
import { h, patch, show } from "./lib/dom.js";
import { forgetOthers } from "./lib/chart.js";
import { problem, to } from "./lib/view.js";
import { pages, navigation } from "./pages/index.js";
import { loginPage } from "./pages/login.js";

const INTERVAL_MS = 5000;
const BACKOFF_MAX_MS = 60_000;
const THEME = "leveret.theme";

const session = { user: null, tags: [], node: "" };
let current = null;

async function start() {
  applyTheme(localStorage.getItem(THEME));
  if (!isLoggedIn()) return show(document.body, loginPage(start));
  try {
    const user = await get(path("whoami"));
    Object.assign(session, { user: user.name, tags: Array.isArray(user.tags) ? user.tags : String(user.tags).split(",") });
  } catch (error) {
    if (error.status === 401) logout();
    return show(document.body, loginPage(start, error));
  }
  const overview = await getIf(path("overview"), {});
  session.node = overview.cluster_name ?? overview.node ?? "";
  show(document.body, frame());
  window.addEventListener("hashchange", () => route({ moved: true }));
  document.addEventListener("visibilitychange", () => document.hidden || current?.refresh());
  route({ moved: false });
}

const may = (tag) => !tag || session.tags.includes("administrator") || session.tags.includes(tag) || (tag === "management" && session.tags.length > 0);

function frame() {
  const links = navigation.filter(({ tag }) => may(tag)).map(({ title, page }) => h("li", {}, h("a", { href: to(page), "data-page": page }, title)));
  const menu = h("details", { class: "menu", open: true },
    h("summary", {}, "Menu"),
    h("ul", {}, links));
  if (window.matchMedia("(max-width: 820px)").matches) menu.open = false;
  menu.addEventListener("click", (event) => {
    if (event.target.closest("a") && window.matchMedia("(max-width: 820px)").matches) menu.open = false;
  });
  return [
    h("a", { class: "skip", href: "#content", onclick: (event) => { event.preventDefault(); document.getElementById("content").focus(); } }, "Skip to the page"),
    h("header", { class: "top" },
      h("a", { class: "brand", href: to("overview") }, "Leveret"),
      h("span", { class: "muted node" }, session.node),
      h("span", { class: "spacer" }),
      h("span", { id: "freshness", class: "muted", role: "status" }),
      themeSwitch(),
      h("span", { class: "user" }, session.user),
      h("button", { type: "button", onclick: leave }, "Log out")),
    h("nav", { class: "side", "aria-label": "Pages of the console" }, menu),
    h("main", { id: "content", tabindex: "-1" }),
  ];
}

function leave() {
  current?.stop();
  logout();
  location.reload();
}

function themeSwitch() {
  const now = localStorage.getItem(THEME) ?? "auto";
  const choose = (event) => {
    localStorage.setItem(THEME, event.target.value);
    applyTheme(event.target.value);
  };
  return h("label", { class: "theme" }, h("span", { class: "quiet" }, "Colours"),
    h("select", { onchange: choose }, ["auto", "light", "dark"].map((theme) => h("option", { value: theme, selected: theme === now }, theme))));
}

function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function route({ moved }) {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  const [name, ...names] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const page = pages[name || "overview"];
  current?.stop();
  forgetOthers(name);
  for (const link of document.querySelectorAll("nav.side a")) {
    if (link.dataset.page === (page?.within ?? (name || "overview"))) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  current = new Shown(page ?? pages.missing, names);
  current.start();
  // Screen readers learn of the new page; whoever has just come begins at the top.
  if (moved) document.querySelector("main h1").focus({ preventScroll: true });
}

/** A page that is being looked at: loads, shows, and loads again until another one is. */
class Shown {
  state = {};
  #page;
  #names;
  #failures = 0;
  #timer = null;
  #ended = new AbortController();
  #root = h("div", { class: "page" });

  constructor(page, names) {
    this.#page = page;
    this.#names = names;
    this.state = { ...page.state };
  }

  get session() {
    return session;
  }

  may(tag) {
    return may(tag);
  }

  start() {
    const title = this.#page.title(...this.#names);
    document.title = `${title} · Leveret`;
    show(document.getElementById("content"), h("h1", { tabindex: "-1" }, title), this.#root);
    show(this.#root, h("p", { class: "muted" }, "Loading…"));
    window.scrollTo(0, 0);
    this.refresh();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#ended.abort();
  }

  /** Shows the page with other choices (sorting, filter, page). */
  change(more) {
    Object.assign(this.state, more);
    this.refresh();
  }

  /** Looks everything up and shows it. */
  async refresh() {
    clearTimeout(this.#timer);
    const { signal } = this.#ended;
    try {
      const data = await this.#page.load(this, ...this.#names);
      if (signal.aborted) return;
      this.#failures = 0;
      this.#show(this.#page.view(this, data, ...this.#names));
      freshness("");
    } catch (error) {
      if (signal.aborted) return;
      this.#failed(error);
    }
    if (this.#page.still && !this.#failures) return;
    const delay = Math.min(INTERVAL_MS * 2 ** this.#failures, BACKOFF_MAX_MS);
    this.#timer = setTimeout(() => (document.hidden ? this.#wait() : this.refresh()), delay);
  }

  // A tab that nobody sees asks nothing; `visibilitychange` wakes it.
  #wait() {}

  #show(...content) {
    patch(this.#root, h("div", { class: "page" }, content));
  }

  #failed(error) {
    if (!(error instanceof ApiError)) console.error(error);
    if (error.status === 401 && error.message === "Login failed") return leave();
    this.#failures += 1;
    if (error.status === 0) freshness("Connection lost. Trying again…");
    else this.#show(problem(error));
  }

  /** The signal that ends with the page. */
  get signal() {
    return this.#ended.signal;
  }

  /** Does something and shows the page anew, or what went wrong. */
  async act(work) {
    try {
      await work();
      await this.refresh();
    } catch (error) {
      this.#root.prepend(problem(error));
    }
  }
}

function freshness(words) {
  const place = document.getElementById("freshness");
  if (place.textContent !== words) place.textContent = words;
}

start();
