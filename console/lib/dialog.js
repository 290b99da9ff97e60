// Questions to the user. The browser's own modal dialog keeps the focus in it and closes on Escape.

import { h, id } from "./dom.js";
import { problem } from "./view.js";

/**
 * Asks by a form. `fields` are what `field` takes; `submit(values)` does it and may throw, which is shown and keeps the dialog open.
 */
export function ask({ title, about, fields = [], action, danger, submit }) {
  const heading = id("dialog");
  const errors = h("div", { "aria-live": "assertive" });
  const form = h("form", { method: "dialog", class: "form" });
  const dialog = h("dialog", { "aria-labelledby": heading },
    h("h2", { id: heading }, title), about && h("div", { class: "about" }, about), form);
  const send = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
  form.append(...fields.map(field), errors, h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), send));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      await submit(read(form, fields));
      dialog.close("done");
    } catch (error) {
      errors.replaceChildren(problem(error));
    } finally {
      send.disabled = false;
    }
  });
  return open(dialog);
}

/** Asks before something is lost: the name has to be typed where it matters most. */
export function confirm({ title, about, action, name, submit }) {
  const fields = name === undefined ? [] : [{ name: "typed", label: "Type the name to confirm", hint: name, required: true }];
  return ask({ title, about, action, danger: true, fields, submit: async (values) => {
    if (name !== undefined && values.typed !== name) throw new Error("That is another name.");
    await submit();
  } });
}

/** Shows something until it is closed. */
export function tell(title, ...children) {
  const heading = id("dialog");
  const dialog = h("dialog", { "aria-labelledby": heading }, h("h2", { id: heading }, title), children);
  dialog.append(h("div", { class: "actions" }, h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")));
  return open(dialog);
}

function open(dialog) {
  const before = document.activeElement;
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      before?.focus?.();
      resolve(dialog.returnValue === "done");
    });
    dialog.showModal();
  });
}

/** A labelled field: `name`, `label`, and `kind` (text, number, password, textarea, select, checkbox), `value`, `hint`, `options`. */
export function field({ name, label, kind = "text", value, hint, options, required, rows }) {
  const own = id(name);
  const about = hint && h("small", { id: `${own}-hint` }, hint);
  const attributes = { id: own, name, required, "aria-describedby": hint ? `${own}-hint` : null, autocomplete: "off", spellcheck: "false" };
  if (kind === "checkbox") {
    return h("div", { class: "field check" }, h("input", { type: "checkbox", ...attributes, checked: Boolean(value) }), h("label", { for: own }, label), about);
  }
  return h("div", { class: "field" }, h("label", { for: own }, label), control(kind, attributes, value, options, rows), about);
}

function control(kind, attributes, value, options, rows) {
  if (kind === "select") {
    return h("select", attributes, options.map((option) => {
      const [key, label] = Array.isArray(option) ? option : [option, option];
      return h("option", { value: key, selected: key === value }, label);
    }));
  }
  if (kind === "textarea") return h("textarea", { ...attributes, rows: rows ?? 4 }, value ?? "");
  return h("input", { type: kind, ...attributes, value: value ?? "" });
}

/** What a form says, by name; numbers as numbers, empty fields as undefined. */
export function read(form, fields) {
  const values = {};
  for (const { name, kind } of fields) {
    const control = form.elements.namedItem(name);
    if (kind === "checkbox") values[name] = control.checked;
    else if (control.value === "") values[name] = undefined;
    else values[name] = kind === "number" ? Number(control.value) : control.value;
  }
  return values;
}

/** `name = value` lines; a value that is JSON counts as that, anything else as text. */
export function parseArguments(lines) {
  const values = {};
  for (const line of (lines ?? "").split("\n").map((text) => text.trim()).filter(Boolean)) {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`Write name = value, not “${line}”.`);
    values[line.slice(0, at).trim()] = typed(line.slice(at + 1).trim());
  }
  return values;
}

function typed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
