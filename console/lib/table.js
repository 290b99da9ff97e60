// Tables: sorted by the server or here, cut to pages, with a filter.

import { h, id } from "./dom.js";
import { empty } from "./view.js";
import { count } from "./format.js";

/**
 * A table of `rows`. A column has `title`, `cell(row)`, and perhaps `sort` (the field it sorts by), `number` (aligned right)
 * and `wide` (left out on narrow screens).
 */
export function table({ caption, columns, rows, rowKey, state, onsort, nothing }) {
  if (!rows.length) return empty(nothing ?? "Nothing here.");
  return h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "quiet" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => head(column, state, onsort)))),
      h("tbody", {}, rows.map((row) => h("tr", { key: rowKey?.(row) }, columns.map((column, at) => cell(column, row, at)))))));
}

function classes(column) {
  return [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null;
}

function cell(column, row, at) {
  const attributes = { class: classes(column) };
  return at === 0 ? h("th", { scope: "row", ...attributes }, column.cell(row)) : h("td", attributes, column.cell(row));
}

function head(column, state, onsort) {
  if (!column.sort || !onsort) return h("th", { scope: "col", class: classes(column) }, column.title);
  const sorted = state.sort === column.sort;
  const direction = sorted ? (state.reverse ? "descending" : "ascending") : null;
  const mark = sorted ? (state.reverse ? " ▾" : " ▴") : "";
  const sort = () => onsort({ sort: column.sort, reverse: sorted ? !state.reverse : Boolean(column.number) });
  return h("th", { scope: "col", class: classes(column), "aria-sort": direction },
    h("button", { type: "button", class: "sort", onclick: sort }, column.title, h("span", { "aria-hidden": "true" }, mark)));
}

/** Sorts rows that are all here. */
export function sorted(rows, { sort, reverse }) {
  if (!sort) return rows;
  const at = (row) => sort.split(".").reduce((inner, part) => inner?.[part], row);
  const order = [...rows].sort((a, b) => compare(at(a), at(b)));
  return reverse ? order.reverse() : order;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
}

/** A list that the server sorts, filters and cuts: a filter field, the table, and the pages below it. */
export function pagedTable(context, answer, options) {
  const state = context.state;
  const items = Array.isArray(answer) ? answer : answer.items;
  const total = Array.isArray(answer) ? answer.length : answer.filtered_count;
  const change = (more) => context.change(more);
  return [
    h("div", { class: "bar" }, filterField(state, change, options.filterLabel), options.tools, h("span", { class: "muted", role: "status" }, `${count(total)} ${options.what}`)),
    table({ ...options, rows: items, state, onsort: (sort) => change({ ...sort, page: 1 }) }),
    pages(answer, state, change),
  ];
}

let waiting;
function filterField(state, change, label) {
  const field = id("filter");
  const type = (event) => {
    const name = event.target.value;
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ name, page: 1 }), 250);
  };
  return h("label", { class: "filter" }, h("span", { class: "quiet" }, label ?? "Filter by name"),
    h("input", { type: "search", id: field, key: "filter", value: state.name ?? "", placeholder: label ?? "Filter by name", oninput: type, autocomplete: "off", spellcheck: "false" }));
}

function pages(answer, state, change) {
  if (Array.isArray(answer) || answer.page_count <= 1) return null;
  const go = (page) => () => change({ page });
  return h("nav", { class: "pages", "aria-label": "Pages" },
    h("button", { type: "button", disabled: answer.page <= 1, onclick: go(answer.page - 1) }, "Previous"),
    h("span", {}, `Page ${answer.page} of ${answer.page_count}`),
    h("button", { type: "button", disabled: answer.page >= answer.page_count, onclick: go(answer.page + 1) }, "Next"));
}

/** The query of a list that the server sorts. */
export const listQuery = (state, more = {}) => ({ page: state.page ?? 1, page_size: 50, sort: state.sort ?? "name", sort_reverse: state.reverse ? "true" : undefined, name: state.name, ...more });
