// Logging in. Nothing is kept beyond this tab.

import { h, id } from "../lib/dom.js";
import { login } from "../lib/api.js";
import { problem } from "../lib/view.js";

export function loginPage(done, error) {
  const [user, password] = [id("user"), id("password")];
  const form = h("form", { class: "login card" },
    h("h1", {}, "Leveret"),
    error && (error.status === 401 ? h("div", { class: "problem", role: "alert" }, refused(error)) : problem(error)),
    h("div", { class: "field" }, h("label", { for: user }, "User"), h("input", { id: user, name: "user", autocomplete: "username", required: true, autofocus: true, spellcheck: "false" })),
    h("div", { class: "field" }, h("label", { for: password }, "Password"), h("input", { id: password, name: "password", type: "password", autocomplete: "current-password", required: true })),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Log in")),
    h("p", { class: "muted" }, "A new broker has the user guest with the password guest, from its own machine only."));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    login(form.elements.user.value, form.elements.password.value);
    done();
  });
  return h("main", { class: "login-page" }, form);
}

function refused(error) {
  return error.message === "Not management user"
    ? "This user may not use the console: an administrator has to give it a tag such as management or monitoring."
    : "User or password are not right.";
}
