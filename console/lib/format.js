// Numbers, sizes and times as people read them.

const number = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const MISSING = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export const count = (value) => (isNumber(value) ? number.format(value) : MISSING);

export const short = (value) => (isNumber(value) ? compact.format(value) : MISSING);

export function bytes(value) {
  if (!isNumber(value)) return MISSING;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

export function rate(value) {
  if (!isNumber(value)) return MISSING;
  return `${value < 10 && value % 1 ? value.toFixed(1) : compact.format(Math.round(value))}/s`;
}

export const byteRate = (value) => (isNumber(value) ? `${bytes(value)}/s` : MISSING);

/** The rate of a counter that the API gives as `name` and `name_details`. */
export const rateOf = (stats, name) => stats?.[`${name}_details`]?.rate;

export function duration(ms) {
  if (!isNumber(ms)) return MISSING;
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  const seconds = Math.floor(ms / 1000);
  const [d, hh, m] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (d) return `${d} d ${hh} h`;
  if (hh) return `${hh} h ${m} min`;
  if (m) return `${m} min ${seconds % 60} s`;
  return `${seconds} s`;
}

/** How long ago, given ms since 1970. */
export const ago = (ms) => (isNumber(ms) ? `${duration(Math.max(0, Date.now() - ms))} ago` : MISSING);

/** The exact time, given ms since 1970. */
export const time = (ms) => (isNumber(ms) ? clock.format(ms) : MISSING);

export const yes = (value) => (value ? "yes" : "no");

export const text = (value) => (value === undefined || value === null || value === "" ? MISSING : String(value));

/** A value of a table of arguments or headers. */
export const value = (any) => (typeof any === "string" ? any : JSON.stringify(any));
