// The pieces that pages are made of.

import { h, id } from "./dom.js";
import { text, value } from "./format.js";

/** A link to a page of the console. */
export const link = (label, ...parts) => h("a", { href: to(...parts) }, label === "" ? "(empty)" : label);

/** Where a page is. */
export const to = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

/** A part of a page with a heading. */
export function section(title, ...children) {
  const heading = id("heading");
  return h("section", { class: "card", "aria-labelledby": heading }, h("h2", { id: heading }, title), children);
}

/** Names and values in two columns. */
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, shown]) => [h("dt", {}, name), h("dd", {}, shown instanceof Node ? shown : Array.isArray(shown) ? shown : text(shown))]));

/** A few large numbers in a row. */
export const tiles = (list) =>
  h("ul", { class: "tiles" }, list.filter(Boolean).map(({ label, shown, hint, href }) => {
    const inner = [h("span", { class: "tile-value" }, shown), h("span", { class: "tile-label" }, label), hint && h("span", { class: "tile-hint" }, hint)];
    return h("li", { class: "tile" }, href ? h("a", { href }, inner) : inner);
  }));

/** A short word with a colour; the word alone says it all. */
export const badge = (word, tone = "plain", title) => h("span", { class: `badge badge-${tone}`, title }, word);

/** What to do where there is nothing yet. */
export const empty = (...words) => h("p", { class: "empty" }, words);

export const button = (label, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, label);

/** Arguments, headers, client properties. */
export function map(values) {
  const entries = Object.entries(values ?? {});
  if (!entries.length) return h("span", { class: "muted" }, "none");
  return h("dl", { class: "map" }, entries.map(([name, any]) => [h("dt", {}, name), h("dd", {}, any && typeof any === "object" && !Array.isArray(any) ? map(any) : value(any))]));
}

/** Something went wrong, in the server's words. */
export const problem = (error) => h("div", { class: "problem", role: "alert" }, h("strong", {}, error.status === 404 ? "Not found. " : error.status === 401 ? "Not allowed. " : "That did not work. "), error.message);
