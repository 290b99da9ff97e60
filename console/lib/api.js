// The HTTP API. The password lives in this module and in the tab's session, in no cookie and in no storage that outlives the tab.

const SESSION = "leveret.credentials";
const TIMEOUT_MS = 20_000;

let authorization = sessionStorage.getItem(SESSION);

/** A request that the server refused, or that never came there. */
export class ApiError extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/** Whether somebody is logged in. */
export const isLoggedIn = () => authorization !== null;

/** Remembers who asks from now on. */
export function login(user, password) {
  const octets = new TextEncoder().encode(`${user}:${password}`);
  authorization = `Basic ${btoa(String.fromCharCode(...octets))}`;
  sessionStorage.setItem(SESSION, authorization);
}

export function logout() {
  authorization = null;
  sessionStorage.removeItem(SESSION);
}

/** A path of the API from its parts, each a name as it is. */
export const path = (...parts) => `/api/${parts.map(encodeURIComponent).join("/")}`;

/** The same with a query; what is undefined or empty is left out. */
export function query(base, values) {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== "" && value !== false);
  const text = set.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join("&");
  return text ? `${base}?${text}` : base;
}

export const get = (url, signal) => request("GET", url, undefined, signal);
export const put = (url, body = {}) => request("PUT", url, body);
export const post = (url, body = {}) => request("POST", url, body);
export const del = (url, headers) => request("DELETE", url, undefined, undefined, headers);

/** Like `get`, with `fallback` where the server has no such thing or the user may not see it. */
export async function getIf(url, fallback, signal) {
  try {
    return await get(url, signal);
  } catch (error) {
    if (error instanceof ApiError && [401, 403, 404, 405].includes(error.status)) return fallback;
    throw error;
  }
}

async function request(method, url, body, signal, more = {}) {
  const headers = { "X-Requested-With": "leveret", ...more };
  if (authorization) headers.Authorization = authorization;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const signals = [AbortSignal.timeout(TIMEOUT_MS), signal].filter(Boolean);
  const options = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.any(signals) };
  options.credentials = "omit";
  options.cache = "no-store";
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, error.name === "TimeoutError" ? "The server did not answer in time." : "The server cannot be reached.");
  }
  const text = await response.text();
  if (!response.ok) throw new ApiError(response.status, reason(response, text));
  return text && response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text;
}

function reason(response, text) {
  try {
    const said = JSON.parse(text);
    if (typeof said.reason === "string") return said.reason;
    return said.reason ? JSON.stringify(said.reason) : said.error ?? text;
  } catch {
    return text.slice(0, 500) || `${response.status} ${response.statusText}`;
  }
}
