// Builds and patches the page. Text is only ever text: nothing here turns a string into markup, so no name, header or body
// that a stranger sends can become code.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "title", "polyline"]);

/** Makes an element. Attributes that are functions are listeners (`onclick`), `null` and `false` leave one out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  if (!SVG_TAGS.has(tag)) throw new Error(`not an SVG element: ${tag}`);
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
  append(element, children);
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "key") element.dataset.key = value;
  else if (typeof value === "function") listen(element, name.slice(2), value);
  else if (name.startsWith("on") || name === "style") throw new Error(`not as text: ${name}`);
  else if (name === "href" && !/^(#|\/)/.test(value)) throw new Error(`not ours: ${value}`);
  else element.setAttribute(name, value === true ? "" : String(value));
}

// One listener per kind, which looks up what to do: so patching can exchange it.
function listen(element, kind, action) {
  element.listeners ??= {};
  if (!element.listeners[kind]) element.addEventListener(kind, dispatch);
  element.listeners[kind] = action;
}

function dispatch(event) {
  return event.currentTarget.listeners?.[event.type]?.(event);
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces what is in an element. */
export function show(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/**
 * Makes `old` like `fresh`, keeping the elements that are there: focus, selection and scroll positions stay, and
 * what a user has typed is not touched.
 */
export function patch(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.dataset?.key !== fresh.dataset?.key) {
    old.replaceWith(fresh);
    return fresh;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  if (old.dataset?.keep !== undefined) return old;
  patchAttributes(old, fresh);
  patchListeners(old, fresh);
  patchChildren(old, fresh);
  return old;
}

function patchAttributes(old, fresh) {
  const typed = /^(INPUT|SELECT|TEXTAREA|DIALOG|DETAILS)$/.test(old.nodeName);
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(typed && name === "open")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (typed && (name === "value" || name === "open")) continue;
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function patchListeners(old, fresh) {
  for (const [kind, action] of Object.entries(fresh.listeners ?? {})) listen(old, kind, action);
  for (const kind of Object.keys(old.listeners ?? {})) {
    if (!fresh.listeners?.[kind]) old.listeners[kind] = undefined;
  }
}

function patchChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.childNodes) if (child.dataset?.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.dataset?.key ? keyed.get(child.dataset.key) : undefined;
    if (known && known !== at) old.insertBefore(known, at);
    const here = known ?? at;
    if (!here || (!known && here.dataset?.key && !child.dataset?.key)) {
      old.insertBefore(child, at);
      continue;
    }
    const next = here.nextSibling;
    patch(here, child);
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

let ids = 0;
/** A name for an element that labels point to. */
export const id = (prefix) => `${prefix}-${++ids}`;
