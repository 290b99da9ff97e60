// Drives a headless Chromium by its DevTools protocol: just what the tests of the console need, without a package.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const PATIENCE_MS = 30_000;
const POLL_MS = 50;

/** A running Chromium with one page. */
class Browser {
  #child;
  #directory;
  #session;
  #waiting = new Map();
  #listeners = [];
  #last = 0;

  static async start() {
    const browser = new Browser();
    browser.#directory = fs.mkdtempSync(path.join(os.tmpdir(), "console-browser-"));
    const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", `--user-data-dir=${browser.#directory}`, "about:blank"];
    browser.#child = spawn("chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true });
    browser.#listen();
    const { targetInfos } = await browser.send("Target.getTargets");
    const { targetId } = targetInfos.find(({ type }) => type === "page");
    const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = sessionId;
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await browser.send(`${domain}.enable`);
    return browser;
  }

  // Messages end with a zero octet.
  #listen() {
    let rest = "";
    this.#child.stdio[4].setEncoding("utf8");
    this.#child.stdio[4].on("data", (text) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop();
      messages.forEach((message) => this.#received(JSON.parse(message)));
    });
    this.#child.on("exit", () => this.#waiting.forEach(({ reject }) => reject(new Error("chromium ended"))));
  }

  #received(message) {
    if (!message.id) return this.#listeners.forEach((listener) => listener(message.method, message.params));
    const { resolve, reject } = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error) reject(new Error(message.error.message));
    else resolve(message.result);
  }

  /** A command of the protocol. */
  send(method, params = {}) {
    const id = ++this.#last;
    this.#child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.#session })}\0`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  /** Calls `listener(method, params)` for every event. */
  on(listener) {
    this.#listeners.push(listener);
  }

  /** The value of an expression in the page. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  /** Waits until an expression is true, or says what the page shows instead. */
  async until(expression, patience = PATIENCE_MS) {
    const ends = Date.now() + patience;
    while (!(await this.evaluate(`Boolean(${expression})`))) {
      if (Date.now() > ends) throw new Error(`never: ${expression}; ${await this.evaluate("location.hash")} says: ${(await this.evaluate("document.body.innerText")).slice(0, 600)}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async open(url) {
    await this.send("Page.navigate", { url });
    await this.until("document.readyState === 'complete'");
  }

  async size(width, height, scheme) {
    await this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await this.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  }

  /** Presses a key as a user does. */
  async press(key, code = 0) {
    const event = { key, code: key, windowsVirtualKeyCode: code, text: key === "Enter" ? "\r" : undefined };
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  type(text) {
    return this.send("Input.insertText", { text });
  }

  async screenshot(file) {
    const { cssContentSize } = await this.send("Page.getLayoutMetrics");
    const clip = { x: 0, y: 0, width: cssContentSize.width, height: Math.min(cssContentSize.height, 4000), scale: 1 };
    const { data } = await this.send("Page.captureScreenshot", { format: "png", captureBeyondViewport: true, clip });
    fs.writeFileSync(file, Buffer.from(data, "base64"));
  }

  async stop() {
    const ended = new Promise((resolve) => this.#child.on("exit", resolve));
    process.kill(-this.#child.pid, "SIGKILL"); // with its helpers, which write into its directory
    await ended;
    fs.rmSync(this.#directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

module.exports = { Browser };
