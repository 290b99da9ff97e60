// The web console in a real browser: every page at two widths and in both schemes, by keyboard, what it does, and that no
// text that a stranger sends becomes code.
//
// Debian's chromium, driven by its DevTools protocol (browser.js). Screenshots: SCREENSHOTS=DIR.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const amqp = require("amqplib");
const { Browser } = require("./browser.js");
const { PAYLOADS, BEACON } = require("./payloads.js");

const host = process.env.AMQP_HOST || "127.0.0.1";
const amqpUrl = process.env.AMQP_URL || `amqp://guest:guest@${host}:${process.env.AMQP_PORT || 5672}/%2F`;
const base = `http://${host}:${process.env.MGMT_PORT || 15672}`;
const screenshots = process.env.SCREENSHOTS;
const GUEST = `Basic ${Buffer.from("guest:guest").toString("base64")}`;
const PAGES = ["overview", "services", "queues", "exchanges", "topology", "connections", "channels", "dead-letters", "policies", "limits", "shovels", "users", "vhosts", "definitions", "logs", "no-such-page"];
const SIZES = [[1280, 900, "light"], [360, 740, "light"], [1280, 900, "dark"], [360, 740, "dark"]];

let [passed, failed] = [0, 0];
async function step(name, work) {
  try {
    await work();
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}: ${error.stack}`);
  }
}

async function api(method, path, body) {
  const headers = { Authorization: GUEST, "Content-Type": "application/json" };
  const answer = await fetch(`${base}/api/${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  return { status: answer.status, body: text.startsWith("{") || text.startsWith("[") ? JSON.parse(text) : text };
}
const e = encodeURIComponent;

/** Something for every page to show. */
async function furnish(connection) {
  const channel = await connection.createChannel();
  await channel.assertExchange("service.tasks", "topic");
  await channel.assertExchange("audit", "fanout");
  await channel.bindExchange("audit", "service.tasks", "#");
  await channel.assertQueue("orders", { arguments: { "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "orders.dead" } });
  await channel.assertQueue("orders.dead");
  await channel.assertQueue("po_box");
  await channel.bindQueue("orders", "service.tasks", "service.#");
  await channel.bindQueue("po_box", "audit", "");
  for (let n = 0; n < 12; n += 1) channel.sendToQueue("orders", Buffer.from(JSON.stringify({ order: n })), { contentType: "application/json", headers: { tenant: "a" }, persistent: true });
  for (let n = 0; n < 3; n += 1) {
    let message;
    while (!(message = await channel.get("orders"))) await new Promise((resolve) => setTimeout(resolve, 20));
    channel.reject(message, false);
  }
  await channel.assertQueue("echo");
  await channel.consume("echo", (request) => {
    channel.sendToQueue(request.properties.replyTo, Buffer.concat([Buffer.from("echo of "), request.content]), { correlationId: request.properties.correlationId });
    channel.ack(request);
  });
  await ask(connection);
  assert.equal((await api("PUT", "policies/%2F/short", { pattern: "^po_box$", definition: { "max-length": 1000 }, "apply-to": "queues", priority: 1 })).status, 201);
  assert.equal((await api("PUT", "users/alice", { password: "alice", tags: "monitoring" })).status, 201);
}

async function ask(connection) {
  const channel = await connection.createChannel();
  const answered = new Promise((resolve) => channel.consume("amq.rabbitmq.reply-to", resolve, { noAck: true }).then(() =>
    channel.sendToQueue("echo", Buffer.from("?"), { replyTo: "amq.rabbitmq.reply-to", correlationId: "1" })));
  await answered;
  await channel.close();
}

/** Collects what a page must not do. */
function watch(browser) {
  const seen = [];
  browser.on((method, params) => {
    if (method === "Runtime.exceptionThrown") seen.push(`exception: ${params.exceptionDetails.exception?.description ?? params.exceptionDetails.text}`);
    if (method === "Runtime.consoleAPICalled" && params.type === "error") seen.push(`console: ${params.args.map(({ value, description }) => value ?? description).join(" ")}`);
    if (method === "Log.entryAdded" && params.entry.source === "security") seen.push(`security: ${params.entry.text}`);
    if (method === "Page.javascriptDialogOpening") seen.push(`dialog: ${params.message}`);
  });
  return seen;
}

async function login(browser, user = "guest", password = "guest") {
  await browser.open(`${base}/`);
  await browser.evaluate("sessionStorage.clear()");
  await browser.open(`${base}/`);
  await browser.until("document.querySelector('input[name=user]')");
  await browser.evaluate("document.querySelector('input[name=user]').focus()");
  await browser.type(user);
  await browser.press("Tab", 9);
  await browser.type(password);
  await browser.press("Enter", 13);
}

const heading = "document.querySelector('main h1')?.textContent";
const settled = "!document.querySelector('.page')?.textContent.startsWith('Loading')";

// Chromium ignores navigations beyond 200 in 10 s.
const VISIT_PAUSE_MS = 100;

async function visit(browser, hash) {
  await new Promise((resolve) => setTimeout(resolve, VISIT_PAUSE_MS));
  // Where the page is the same as before, no event says so.
  await browser.evaluate(`document.querySelector("main").replaceChildren(); location.hash = ${JSON.stringify(`#/${hash}`)}; window.dispatchEvent(new HashChangeEvent("hashchange"))`);
  await browser.until(`document.querySelector('main h1') && document.querySelector('.page') && ${settled}`);
}

const LOOK = `(() => {
  const problems = [];
  const say = (what, element) => problems.push(what + ": " + element.outerHTML.slice(0, 160));
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) problems.push("the page scrolls sideways by " + (document.documentElement.scrollWidth - document.documentElement.clientWidth));
  for (const landmark of ["header", "nav", "main"]) if (document.querySelectorAll(landmark).length < 1) problems.push("no " + landmark);
  if (document.querySelectorAll("h1").length !== 1) problems.push("not one h1");
  for (const button of document.querySelectorAll("button, a[href]")) if (!button.textContent.trim() && !button.getAttribute("aria-label")) say("no name", button);
  for (const control of document.querySelectorAll("input, select, textarea")) if (!control.labels?.length && !control.getAttribute("aria-label")) say("no label", control);
  for (const table of document.querySelectorAll("table")) if (!table.caption?.textContent) say("no caption", table);
  for (const picture of document.querySelectorAll("svg[role=img]")) if (!picture.getAttribute("aria-label")) say("no text", picture);
  for (const inline of document.querySelectorAll("[style], [onclick], script:not([src])")) say("inline", inline);
  return problems;
})()`;

async function walk(browser, seen) {
  const more = ["queue/%2F/orders", "exchange/%2F/service.tasks", "exchange/%2F/", "user/alice", "service/%2F/echo"];
  const connections = (await api("GET", "connections")).body;
  if (connections.length) more.push(`connection/${e(connections[0].name)}`);
  for (const [width, height, scheme] of SIZES) {
    await browser.size(width, height, scheme);
    for (const page of [...PAGES, ...more]) {
      await step(`${page} at ${width} ${scheme}`, async () => {
        seen.length = 0;
        await visit(browser, page);
        if (screenshots) await browser.screenshot(`${screenshots}/${page.replace(/[^\w.-]+/g, "_")}-${width}-${scheme}.png`);
        assert.deepEqual(await browser.evaluate(LOOK), []);
        assert.deepEqual(seen, []);
        const problem = await browser.evaluate("document.querySelector('.problem')?.textContent ?? ''");
        assert.ok(page === "no-such-page" ? problem : !problem, problem);
      });
    }
  }
}

async function byKeyboard(browser) {
  await browser.size(1280, 900, "light");
  await browser.evaluate("location.hash = ''");
  await browser.open(`${base}/`);
  await browser.until(`${heading} === 'Overview'`);
  await browser.press("Tab", 9);
  assert.equal(await browser.evaluate("document.activeElement.textContent"), "Skip to the page");
  for (let tabs = 0; tabs < 40; tabs += 1) {
    await browser.press("Tab", 9);
    if (await browser.evaluate("document.activeElement.textContent === 'Queues'")) break;
  }
  const outlined = await browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
  assert.notEqual(outlined, "none", "the focus can be seen");
  await browser.press("Enter", 13);
  await browser.until(`${heading} === 'Queues' && document.querySelector('table')`);
  await clickButton(browser, "Declare a queue…");
  await browser.until("document.querySelector('dialog[open]')");
  for (let tabs = 0; tabs < 20; tabs += 1) {
    await browser.press("Tab", 9);
    const inside = await browser.evaluate("document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))");
    assert.ok(inside, "the focus stays in the dialog");
  }
  await browser.press("Escape", 27);
  await browser.until("!document.querySelector('dialog')");
}

const clickButton = (browser, label, within = "main") =>
  browser.evaluate(`[...document.querySelectorAll(${JSON.stringify(`${within} button`)})].find((button) => button.textContent === ${JSON.stringify(label)}).click()`);

async function fillIn(browser, values, action) {
  await browser.until("document.querySelector('dialog[open]')");
  await browser.evaluate(`(() => {
    const form = document.querySelector("dialog form");
    for (const [name, value] of Object.entries(${JSON.stringify(values)})) {
      const control = form.elements.namedItem(name);
      if (control.type === "checkbox") control.checked = value; else control.value = value;
    }
  })()`);
  await clickButton(browser, action, "dialog");
}

async function actions(browser) {
  await browser.size(1280, 900, "light");
  await step("declare a queue", async () => {
    await visit(browser, "queues");
    await clickButton(browser, "Declare a queue…");
    await fillIn(browser, { name: "made here", arguments: "x-max-length = 7" }, "Declare");
    await browser.until("!document.querySelector('dialog') && document.body.textContent.includes('made here')");
    assert.equal((await api("GET", "queues/%2F/made%20here")).body.arguments["x-max-length"], 7);
  });
  await step("a refusal is shown and nothing is lost", async () => {
    await clickButton(browser, "Declare a queue…");
    await fillIn(browser, { name: "made here", arguments: "x-max-length = 8" }, "Declare");
    await browser.until("document.querySelector('dialog .problem')?.textContent.includes('inequivalent')");
    await browser.press("Escape", 27);
  });
  await step("publish and look, without taking", async () => {
    await visit(browser, "queue/%2F/made%20here");
    await browser.evaluate(`(() => { const form = document.querySelector("main form"); form.elements.payload.value = "hello <b>there</b>"; form.elements.headers.value = "a = 1"; form.requestSubmit(); })()`);
    await browser.until("document.querySelector('.done')?.textContent === 'Published.'");
    await clickButton(browser, "Look at the messages");
    await browser.until("document.querySelector('.messages pre')?.textContent === 'hello <b>there</b>'");
    assert.equal((await api("POST", "queues/%2F/made%20here/get", { count: 1, ackmode: "ack_requeue_true", encoding: "auto" })).body[0].redelivered, false);
  });
  await step("pause and resume", async () => {
    await clickButton(browser, "Pause");
    await browser.until("[...document.querySelectorAll('main button')].some((button) => button.textContent === 'Resume')");
    await clickButton(browser, "Resume");
    await browser.until("[...document.querySelectorAll('main button')].some((button) => button.textContent === 'Pause')");
  });
  await step("move", async () => {
    await clickButton(browser, "Move messages…");
    await fillIn(browser, { where: "to_queue", target: "po_box", count: 5 }, "Move");
    await browser.until("!document.querySelector('dialog')");
    assert.equal((await api("POST", "queues/%2F/made%20here/get", { count: 1, ackmode: "ack_requeue_true", encoding: "auto" })).body.length, 0);
  });
  await step("retry dead letters", async () => {
    await visit(browser, "dead-letters");
    await browser.until("document.body.textContent.includes('orders.dead') && document.body.textContent.includes('rejected 3')");
    await clickButton(browser, "Retry…");
    await fillIn(browser, { count: 3 }, "Retry");
    await browser.until("!document.querySelector('dialog')");
    assert.equal((await api("POST", "queues/%2F/orders.dead/get", { count: 1, ackmode: "ack_requeue_true", encoding: "auto" })).body.length, 0);
  });
  await step("a policy says what it would drop", async () => {
    await visit(browser, "policies");
    await clickButton(browser, "Set a policy…");
    await fillIn(browser, { name: "tiny", pattern: "^orders$", definition: "max-length = 2" }, "Set");
    await browser.until("document.querySelector('dialog .problem')?.textContent.includes('would drop 10 messages')");
    await browser.press("Escape", 27);
    assert.equal((await api("GET", "policies/%2F/tiny")).status, 404);
  });
  await step("ask a service", async () => {
    await visit(browser, "service/%2F/echo");
    await browser.evaluate(`(() => { const form = document.querySelector("main form"); form.elements.payload.value = "who?"; form.requestSubmit(); })()`);
    await browser.until("document.querySelector('.messages pre')?.textContent === 'echo of who?'");
  });
  await step("delete only by the right name", async () => {
    await visit(browser, "queue/%2F/made%20here");
    await clickButton(browser, "Delete…");
    await fillIn(browser, { typed: "something else" }, "Delete");
    await browser.until("document.querySelector('dialog .problem')");
    await fillIn(browser, { typed: "made here" }, "Delete");
    await browser.until(`!document.querySelector('dialog') && ${heading} === 'Queues'`);
    assert.equal((await api("GET", "queues/%2F/made%20here")).status, 404);
  });
}

/** Every string that a user can set, with something that wants to be a script. */
async function poison(connection) {
  const channel = await connection.createChannel();
  channel.on("error", () => {});
  for (const [n, text] of PAYLOADS.entries()) {
    const name = `${n} ${text}`;
    await channel.assertQueue(name, { arguments: { "x-dead-letter-exchange": name, "x-dead-letter-routing-key": text } });
    await channel.assertExchange(name, "topic", { arguments: { [text.slice(0, 100)]: text } });
    await channel.bindQueue(name, name, text, { [text.slice(0, 100)]: text });
    await channel.consume(name, () => {}, { consumerTag: name, prefetch: 1, arguments: { [text.slice(0, 100)]: text } });
    channel.sendToQueue("orders", Buffer.from(text), { contentType: "text/html", headers: { [text.slice(0, 100)]: text }, correlationId: text, replyTo: text, messageId: text, type: text, appId: text });
    for (const [path, body] of [
      [`users/${e(name)}`, { password: "x", tags: `management,${text.replaceAll(",", "")}` }],
      [`vhosts/${e(name)}`, { description: text, tags: text.replaceAll(",", "") }],
      [`policies/%2F/${e(name)}`, { pattern: "^nothing$", definition: { "dead-letter-routing-key": text }, "apply-to": "queues" }],
    ]) {
      const { status, body: said } = await api("PUT", path, body);
      assert.ok([201, 204, 400].includes(status), `${path}: ${status} ${JSON.stringify(said)}`);
    }
  }
  return channel;
}

async function xss(browser, seen) {
  const properties = Object.fromEntries(PAYLOADS.map((text, n) => [`p${n}`, text]));
  const poisoned = await amqp.connect(amqpUrl, { clientProperties: { connection_name: PAYLOADS[0], product: PAYLOADS[1], ...properties } });
  await poison(poisoned);
  await browser.size(1280, 900, "light");
  await visit(browser, "overview");
  await browser.evaluate(`window.${BEACON} = () => { window.beaten = (window.beaten ?? 0) + 1; }; window.alert = window.${BEACON}; window.beaten = 0`);
  const inside = PAYLOADS.flatMap((text, n) => ["queue", "exchange"].map((kind) => `${kind}/%2F/${e(`${n} ${text}`)}`).concat(`user/${e(`${n} ${text}`)}`));
  const connections = (await api("GET", "connections")).body.map(({ name }) => `connection/${e(name)}`);
  seen.length = 0;
  for (const page of [...PAGES, ...connections, ...inside, `queue/${e(PAYLOADS[0])}/${e(PAYLOADS[1])}`]) {
    await visit(browser, page);
    assert.equal(await browser.evaluate("window.beaten"), 0, `a script ran on ${page}; ${seen}`);
  }
  await visit(browser, "queue/%2F/orders");
  await clickButton(browser, "Look at the messages");
  await browser.until("document.querySelectorAll('.messages li').length > 10");
  await browser.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })");
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(await browser.evaluate("window.beaten"), 0, "a script ran among the messages");
  assert.equal(await browser.evaluate("document.querySelectorAll('main script, main iframe, main img, main object, main embed').length"), 0);
  assert.deepEqual(seen.filter((what) => !what.startsWith("console: ")), []);
  await poisoned.close();
}

async function headers() {
  const answer = await fetch(`${base}/`);
  const policy = answer.headers.get("content-security-policy");
  for (const word of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"]) assert.ok(policy.includes(word), policy);
  assert.ok(!/unsafe|\*/.test(policy), policy);
  assert.equal(answer.headers.get("set-cookie"), null);
  assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
  const foreign = { Authorization: GUEST, Origin: "http://evil.example" };
  const asked = await fetch(`${base}/api/whoami`, { headers: foreign });
  assert.equal(asked.headers.get("access-control-allow-origin"), null);
  const forged = await fetch(`${base}/api/vhosts/forged`, { method: "PUT", headers: { ...foreign, "Content-Type": "text/plain" }, body: "{}" });
  assert.equal(forged.status, 403);
}

// What a page of another site would like to have done, as a form can send it: `NAME=VALUE` in plain text.
const FORMS = [
  ["definitions", '{"vhosts":[{"name":"forged"}],"x":"', '"}'],
  ["exchanges/%2F/amq.default/publish", '{"routing_key":"po_box","payload":"forged","payload_encoding":"string","properties":{"type":"', '"}}'],
  ["users/bulk-delete", '{"users":["alice"],"x":"', '"}'],
];

/** Waits while the page goes on to another by itself, under whoever looks at it. */
async function untilThere(browser, expression) {
  for (let looks = 0; looks < 10; looks += 1) {
    try {
      return await browser.until(expression);
    } catch (error) {
      if (!error.message.includes("navigated")) throw error;
    }
  }
  throw new Error(`never: ${expression}`);
}

/** Each form is sent by a page of another site, in a browser that knows the password and adds it by itself. */
async function foreignForms(browser) {
  const pages = http.createServer((request, answer) => {
    const [path, name, value] = FORMS[Number(request.url.slice(1))] ?? [];
    answer.setHeader("Content-Type", "text/html");
    const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("'", "&#39;");
    answer.end(path && `<form method=post enctype=text/plain action='${base}/api/${path}'><input name='${escaped(name)}' value='${escaped(value)}'></form><script>document.forms[0].submit()</script>`);
  });
  await new Promise((resolve) => pages.listen(0, host, resolve));
  try {
    const state = async () => JSON.stringify([(await api("GET", "definitions")).body, (await api("POST", "queues/%2F/po_box/get", { count: 1000, ackmode: "ack_requeue_true", encoding: "auto" })).body.length]);
    await browser.open(`${base.replace("//", "//guest:guest@")}/api/whoami`);
    const before = await state();
    for (const n of FORMS.keys()) {
      await browser.send("Page.navigate", { url: `http://${host}:${pages.address().port}/${n}` });
      // 403 and not 401: the password came along.
      await untilThere(browser, "document.body?.textContent.includes('a page of another site')");
    }
    assert.equal(await state(), before);
    for (const [path, name, value] of FORMS) {
      const sent = await fetch(`${base}/api/${path}`, { method: "POST", headers: { Authorization: GUEST, "Content-Type": "text/plain" }, body: `${name}=${value}` });
      assert.ok(sent.ok, `${path} does nothing even where it may: ${sent.status} ${await sent.text()}`);
    }
    assert.notEqual(await state(), before);
  } finally {
    pages.close();
  }
}

async function main() {
  if (screenshots) fs.mkdirSync(screenshots, { recursive: true });
  const connection = await amqp.connect(amqpUrl);
  connection.on("error", () => {});
  await furnish(connection);
  const browser = await Browser.start();
  const seen = watch(browser);
  try {
    await step("headers", headers);
    await step("a wrong password", async () => {
      await login(browser, "guest", "wrong");
      await browser.until("document.querySelector('.problem')?.textContent.includes('not right')");
    });
    await step("a user without tags", async () => {
      await api("PUT", "users/nobody", { password: "nobody", tags: "" });
      await login(browser, "nobody", "nobody");
      await browser.until("document.querySelector('.problem')?.textContent.includes('may not use the console')");
    });
    await step("log in", async () => {
      await login(browser);
      await browser.until(`${heading} === 'Overview' && document.querySelector('.tiles')`);
      if (screenshots) await browser.screenshot(`${screenshots}/overview.png`);
    });
    await step("by keyboard", () => byKeyboard(browser));
    await actions(browser);
    await walk(browser, seen);
    await step(`${PAYLOADS.length} payloads in every string`, () => xss(browser, seen));
    await step("log out", async () => {
      await clickButton(browser, "Log out", "header");
      await browser.until("document.querySelector('input[name=password]')");
      assert.equal(await browser.evaluate("sessionStorage.length + document.cookie.length"), 0);
    });
    await step("forms of another site", () => foreignForms(browser));
  } finally {
    await browser.stop();
    await connection.close();
  }
}

main().catch((error) => {
  failed += 1;
  console.log(`FAILED console: ${error.stack}`);
}).finally(() => {
  console.log(`console: ${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
});
