// All pages: their names in the address, and what the menu shows to whom.

import * as overview from "./overview.js";
import * as connections from "./connections.js";
import * as channels from "./channels.js";
import * as exchanges from "./exchanges.js";
import * as exchange from "./exchange.js";
import * as queues from "./queues.js";
import * as queue from "./queue.js";
import * as topology from "./topology.js";
import * as services from "./services.js";
import * as service from "./service.js";
import * as deadLetters from "./dead_letters.js";
import * as users from "./users.js";
import * as user from "./user.js";
import * as vhosts from "./vhosts.js";
import * as policies from "./policies.js";
import * as limits from "./limits.js";
import * as shovels from "./shovels.js";
import * as definitions from "./definitions.js";
import * as logs from "./logs.js";
import { problem } from "../lib/view.js";

const missing = {
  title: () => "No such page",
  load: async () => null,
  view: () => problem({ status: 404, message: "The console has no page at this address." }),
  still: true,
};

export const pages = {
  overview, connections, connection: connections.one, channels, exchanges, exchange, queues, queue, topology, services, service,
  "dead-letters": deadLetters, users, user, vhosts, policies, limits, shovels, definitions, logs, missing,
};

export const navigation = [
  { page: "overview", title: "Overview" },
  { page: "services", title: "Services" },
  { page: "queues", title: "Queues" },
  { page: "exchanges", title: "Exchanges" },
  { page: "topology", title: "Topology" },
  { page: "connections", title: "Connections" },
  { page: "channels", title: "Channels" },
  { page: "dead-letters", title: "Dead letters" },
  { page: "policies", title: "Policies" },
  { page: "limits", title: "Limits" },
  { page: "shovels", title: "Shovels", tag: "policymaker" },
  { page: "users", title: "Users", tag: "administrator" },
  { page: "vhosts", title: "Virtual hosts" },
  { page: "definitions", title: "Definitions", tag: "administrator" },
  { page: "logs", title: "Logs", tag: "administrator" },
];
