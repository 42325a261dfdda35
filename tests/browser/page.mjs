// node page.mjs CHROMIUM PROFILE_DIRECTORY URL: opens the demo page in tabs of a headless browser and looks at what a person
// would see. Prints the check that failed, and what the page looked like then; the exit code says which way it went.
// SHOTS=directory in the environment keeps pictures of the page at its three widths.

import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";

const [chromium, profile, url] = process.argv.slice(2);
const SOON = 30_000;
const SIZES = [[320, 568], [700, 700], [1280, 800]];

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function eventually(what, look) {
  const end = Date.now() + SOON;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`${what}: not seen within ${SOON} ms`);
    await pause(50);
  }
}

/** One connection to the browser; commands by session. */
class DevTools {
  static async open(address) {
    const tools = new DevTools();
    tools.pending = new Map();
    tools.serial = 0;
    tools.socket = new WebSocket(address);
    tools.socket.onmessage = ({ data }) => tools.take(JSON.parse(data));
    await new Promise((resolve, reject) => {
      tools.socket.onopen = resolve;
      tools.socket.onerror = () => reject(new Error("the browser takes no connection"));
    });
    return tools;
  }

  take({ id, result, error }) {
    const waiting = this.pending.get(id);
    this.pending.delete(id);
    if (error) waiting?.reject(new Error(error.message));
    else waiting?.resolve(result);
  }

  call(method, params = {}, sessionId = undefined) {
    const id = ++this.serial;
    this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    return new Promise((resolve, reject) => this.pending.set(id, { resolve, reject }));
  }
}

/** A tab, with a session storage, so a name, of its own. */
class Tab {
  static async open(tools, [width, height]) {
    const tab = new Tab();
    const { browserContextId } = await tools.call("Target.createBrowserContext");
    const { targetId } = await tools.call("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await tools.call("Target.attachToTarget", { targetId, flatten: true });
    tab.call = (method, params) => tools.call(method, params, sessionId);
    await tab.call("Page.enable");
    await tab.size([width, height]);
    await tab.call("Page.navigate", { url });
    await tab.connected();
    return tab;
  }

  size([width, height]) {
    return this.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  }

  /** The value of an expression in the page; undefined while the page is on its way. */
  async see(expression) {
    try {
      const { result, exceptionDetails } = await this.call("Runtime.evaluate", { expression, returnByValue: true });
      return exceptionDetails ? undefined : result.value;
    } catch {
      return undefined;
    }
  }

  until(what, expression) {
    return eventually(what, () => this.see(expression));
  }

  connected() {
    return this.until("the page is connected", `document.querySelector("#state")?.dataset.state === "open"`);
  }

  async join(name) {
    await this.see(`document.querySelector("#name").value = ${JSON.stringify(name)}; document.querySelector("#who").requestSubmit()`);
    await this.connected();
  }

  say(text, qos) {
    return this.see(`document.querySelector('[name="qos"][value="${qos}"]').checked = true;
      document.querySelector("#text").value = ${JSON.stringify(text)};
      document.querySelector("#composer").requestSubmit(); true`);
  }

  /** Lines of the lobby that are exactly this. */
  notes(text) {
    return this.see(`[...document.querySelectorAll("#messages .note")].filter((line) => line.textContent === ${JSON.stringify(text)}).length`);
  }

  async picture(name) {
    if (!process.env.SHOTS) return;
    const { data } = await this.call("Page.captureScreenshot", { format: "png" });
    await writeFile(`${process.env.SHOTS}/${name}.png`, Buffer.from(data, "base64"));
  }
}

const checks = {
  async "what is said arrives as text, with the quality it was sent with"(tools) {
    const [ada, bob] = [await Tab.open(tools, SIZES[2]), await Tab.open(tools, SIZES[2])];
    await ada.join("Ada");
    await bob.join("Bob");
    const text = `<img src=x onerror="document.title='broken in'"> & 你好`;
    for (const qos of [0, 1, 2]) {
      await ada.say(`${qos} ${text}`, qos);
      const line = (tab, words) => tab.until(`QoS ${qos}`, `[...document.querySelectorAll("#messages .message")].some((item) =>
        item.querySelector(".text").textContent === ${JSON.stringify(`${qos} ${text}`)} && item.textContent.includes(${JSON.stringify(words)}))`);
      await line(ada, `sent with QoS ${qos}`);
      await line(bob, "received with QoS");
    }
    if ((await bob.see("document.title")) === "broken in") throw new Error("markup was taken for markup");
  },

  async "the composer is in sight and nothing sticks out, at every width"(tools) {
    const tab = await Tab.open(tools, SIZES[0]);
    const name = "A name of forty letters, all of it shown";
    await tab.join(name);
    for (let count = 0; count < 40; count += 1) await tab.say(`${count} ${"words and ".repeat(12)}`, 1);
    await tab.until("40 messages", `document.querySelectorAll("#messages .mine").length >= 40`);
    for (const size of SIZES) {
      await tab.size(size);
      await tab.until(`${size}: the window`, `innerWidth === ${size[0]}`);
      await tab.until(`${size}: the composer`, `(() => {
        const box = document.querySelector("#composer").getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
      })()`);
      await tab.until(`${size}: no scrolling sideways`, `document.documentElement.scrollWidth <= innerWidth`);
      await tab.until(`${size}: names in one piece`, `[...document.querySelectorAll(".from")].every((name) => name.getClientRects().length === 1)`);
      await tab.picture(size[0]);
    }
  },

  async "who leaves the page and comes back is there once"(tools) {
    const [stays, goes] = [await Tab.open(tools, SIZES[2]), await Tab.open(tools, SIZES[2])];
    await stays.join("Stays");
    await goes.join("Goes");
    await eventually("joined", async () => (await stays.notes("Goes joined")) === 1);
    await goes.call("Page.navigate", { url: "about:blank" });
    await eventually("left", async () => (await stays.notes("Goes left")) === 1);
    const { entries } = await goes.call("Page.getNavigationHistory");
    const back = entries.findLast((entry) => entry.url === url);
    await goes.call("Page.navigateToHistoryEntry", { entryId: back.id });
    await goes.connected();
    await eventually("joined again", async () => (await stays.notes("Goes joined")) === 2);
    await goes.say("here I am", 2);
    await stays.until("what it says", `document.querySelector("#messages").textContent.includes("here I am")`);
    if ((await stays.notes("Goes left")) !== 1) throw new Error("it was there twice");
  },

  async "sending while the connection is down is visible, and leaves later"(tools) {
    const tab = await Tab.open(tools, SIZES[2]);
    await tab.join("Offline");
    await tab.call("Network.enable");
    await tab.see(`window.dispatchEvent(new PageTransitionEvent("pagehide"))`);
    await tab.until("down", `document.querySelector("#state").dataset.state !== "open"`);
    await tab.say("said while down", 1);
    await tab.until("it says so", `document.querySelector("#outcome").textContent.includes("not connected")`);
    await tab.see(`window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))`);
    await tab.until("it leaves", `document.querySelector("#messages").textContent.includes("said while down")`);
  },

  async "the packets unfold on a narrow screen, the last one in sight"(tools) {
    const tab = await Tab.open(tools, SIZES[0]);
    for (let count = 0; count < 20; count += 1) await tab.say(`${count}`, 1);
    await tab.until("60 packets", `document.querySelector("#packets").childElementCount >= 60`);
    const shown = `getComputedStyle(document.querySelector("#packets")).display !== "none"`;
    if (await tab.see(shown)) throw new Error("they are unfolded from the start");
    await tab.see(`document.querySelector("#unfold").click()`);
    await tab.until("unfolded", `${shown} && document.querySelector("#unfold").getAttribute("aria-expanded") === "true"`);
    await tab.until("the end of the list", `(() => {
      const list = document.querySelector("#packets");
      return list.scrollHeight > list.clientHeight && list.scrollHeight - list.scrollTop - list.clientHeight < 5;
    })()`);
  },
};

const browser = spawn(chromium, [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check",
  "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0", `--user-data-dir=${profile}`,
  "about:blank",
], { stdio: "ignore" });
let ended = false;
browser.on("exit", () => { ended = true; });

let code = 1;
try {
  const file = `${profile}/DevToolsActivePort`;
  const text = await eventually("the browser starts", async () => {
    if (ended) throw new Error("the browser ended");
    const read = await readFile(file, "utf8").catch(() => "");
    return read.split("\n").length >= 2 && read;
  });
  const [port, path] = text.trim().split("\n");
  const tools = await DevTools.open(`ws://127.0.0.1:${port}${path}`);
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check(tools);
    } catch (error) {
      throw new Error(`${name}: ${error.message}`);
    }
  }
  console.log(`ok: ${Object.keys(checks).length} checks`);
  code = 0;
} catch (error) {
  console.error(error.message);
} finally {
  browser.kill("SIGKILL");
}
process.exit(code);
