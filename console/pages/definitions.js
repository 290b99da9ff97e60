// Definitions: everything but the messages, as a file.

import { get, path, post } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { button, problem, section } from "../lib/view.js";

export const title = () => "Definitions";
export const still = true;
export const load = async () => null;

export function view() {
  const outcome = h("div", { "aria-live": "polite" });
  const file = h("input", { type: "file", accept: "application/json,.json", "aria-label": "A definitions file" });
  return [
    section("Export", h("p", {}, "Users with the hashes of their passwords, virtual hosts, permissions, policies, parameters, queues, exchanges and bindings; no messages."), button("Download", () => download(outcome), { class: "primary" })),
    section("Import", h("p", {}, "A file of this broker or of a RabbitMQ. What is there already stays; all of the file is taken, or nothing."), h("div", { class: "bar" }, file, button("Import", () => upload(file, outcome)))),
    outcome,
  ];
}

async function download(outcome) {
  try {
    const definitions = await get(path("definitions"));
    const blob = new Blob([JSON.stringify(definitions, null, 2)], { type: "application/json" });
    const address = URL.createObjectURL(blob);
    const anchor = document.createElement("a");
    anchor.setAttribute("href", address);
    anchor.setAttribute("download", `definitions-${new Date().toISOString().slice(0, 10)}.json`);
    anchor.click();
    URL.revokeObjectURL(address);
  } catch (error) {
    outcome.replaceChildren(problem(error));
  }
}

async function upload(file, outcome) {
  try {
    if (!file.files.length) throw new Error("Choose a file first.");
    await post(path("definitions"), JSON.parse(await file.files[0].text()));
    outcome.replaceChildren(h("p", { class: "done" }, "Imported."));
  } catch (error) {
    outcome.replaceChildren(problem(error));
  }
}
