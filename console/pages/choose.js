// Fields that several pages ask by.

import { get, path } from "../lib/api.js";

/** A field for a virtual host: those that the user may see. */
export async function vhostField(value = "/") {
  const vhosts = (await get(path("vhosts"))).map(({ name }) => name);
  return { name: "vhost", label: "Virtual host", kind: "select", options: vhosts, value: vhosts.includes(value) ? value : vhosts[0] };
}
