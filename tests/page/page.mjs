// The live page in a headless browser: what tests/page.rs has started, looked at as a person would.
//
// node page.mjs TOOLS SCENARIO URL [FOLDER]
// TOOLS is a folder with playwright-core and axe-core. Prints one line for each step, and fails with
// the first thing that is not as it should be.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import assert from "node:assert/strict";

const [tools, scenario, url, folder] = process.argv.slice(2);
const require = createRequire(tools + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = 20_000;

const browser = await chromium.launch({
  executablePath: process.env.BITSD_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});

/** A page that may ask nobody but the server, and may not complain. */
const open = async (options = {}, at = url) => {
  const { may = [], ...rest } = options;
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...rest });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on("console", (message) => {
    const text = message.text();
    if (["error", "warning"].includes(message.type()) && !may.some((word) => text.includes(word))) wrong.push(text);
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => { wrong.push("a dialog: " + dialog.message()); dialog.dismiss(); });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) wrong.push("asked " + request.url());
  });
  await page.goto(at);
  return { page, context, end: async () => { assert.deepEqual(wrong, []); await context.close(); } };
};
const live = (page) => page.locator("#live.on").waitFor();
const accessible = async (page, what) => {
  // By the inspector, which no policy of the page stops.
  const found = await page.evaluate(axe + "; axe.run().then((r) => r.violations.map((v) => v.id + ' ' + v.nodes[0].html))");
  assert.deepEqual(found, [], what);
};
const step = (text) => console.log(text);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
/** Tells the test to do something, and waits until it has. */
const ask = async (what) => { console.log("ASK " + what); const { value } = await lines.next(); assert.equal(value, "done " + what); };

const SCENARIOS = {
  /** It loads, lists, filters by keyboard and by link, and is for everybody. */
  async shows() {
    const { page, end } = await open();
    await live(page);
    assert.equal(await page.locator("#sentence").textContent(), "All is well: new uploads are taken.");
    await page.locator("#lately", { hasText: "/host-7/done.zip" }).waitFor();
    await page.locator("#needs", { hasText: "/host-8/there.zip" }).waitFor();
    assert.match(await page.locator("#needs").textContent(), /its job ends in an error/);
    const folders = page.locator("#folders tr");
    await folders.filter({ hasText: "host-7" }).waitFor();
    assert.match(await folders.first().textContent(), /host-9.*not since the start/);
    step("it lists");
    await page.keyboard.press("/");
    await page.keyboard.type("host-9");
    await page.locator("#found tr", { hasText: "/host-9/open.zip" }).waitFor();
    assert.match(await page.locator("#found").textContent(), /bitsd sessions show [0-9A-F]{8}/);
    assert.doesNotMatch(await page.locator("#folders").textContent(), /host-7/);
    assert.match(page.url(), /#host-9$/);
    await page.keyboard.press("Escape");
    await page.locator("#where").waitFor({ state: "hidden" });
    step("it filters by keyboard");
    await page.locator(".card").first().focus();
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.evaluate("document.activeElement.tagName"), "TR");
    step("rows are reached by keyboard");
    await accessible(page, "light");
    await end();
    const link = await open({}, url + "#127.0.0.1");
    await link.page.locator("#found tr", { hasText: "/host-9/open.zip" }).waitFor();
    await link.end();
    step("a link keeps the filter");
    const dark = await open({ colorScheme: "dark" });
    await live(dark.page);
    await dark.page.locator("#lately tr").first().waitFor();
    await accessible(dark.page, "dark");
    await dark.end();
    const narrow = await open({ viewport: { width: 390, height: 800 } });
    await live(narrow.page);
    await narrow.page.locator("#lately tr").first().waitFor();
    const width = await narrow.page.evaluate("document.documentElement.scrollWidth");
    assert.ok(width <= 390, `${width} wide`);
    await accessible(narrow.page, "narrow");
    await narrow.end();
    step("it is for everybody");
  },
  /** Names from outside are text. */
  async hostile() {
    for (const javaScriptEnabled of [true, false]) {
      const { page, end } = await open({ javaScriptEnabled });
      if (javaScriptEnabled) await live(page);
      const row = page.locator("#lately tr", { hasText: "%3Cimg%20src=x%20onerror=alert(1)%3E" });
      await row.first().waitFor();
      await page.locator("#lately tr", { hasText: "a'&" }).first().waitFor();
      const text = await page.locator("main").textContent();
      assert.doesNotMatch(text, /[\u202a-\u202e\u2066-\u2069\u200b-\u200f]/);
      assert.match(text, /\ufffd/);
      assert.equal(await page.locator("main img, main b b, main script").count(), 0);
      const width = await page.evaluate("document.documentElement.scrollWidth");
      assert.ok(width <= 1280, `${width} wide`);
      await end();
    }
    step("names are text");
  },
  /** Without JavaScript it is how things were. */
  async snapshot() {
    const { page, end } = await open({ javaScriptEnabled: false });
    await page.locator("noscript").waitFor({ state: "attached" });
    assert.match(await page.locator("main").textContent(), /Without JavaScript, this is how things were at \d{4}-/);
    assert.equal(await page.locator("#sentence").textContent(), "All is well: new uploads are taken.");
    assert.match(await page.locator("#lately").textContent(), /host-7\/done\.zip/);
    assert.match(await page.locator("#folders").textContent(), /host-9/);
    assert.equal(await page.locator("#find").isVisible(), false);
    await end();
    step("a snapshot");
  },
  /** A full disk is said in a sentence, with what helps. */
  async full() {
    const { page, end } = await open();
    await page.locator("body[data-state=not_ready]").waitFor();
    assert.match(await page.locator("#sentence").textContent(), /New uploads are not taken: .* are free at the (root|work directory)/);
    assert.match(await page.locator("#remedy").textContent(), /What helps: free some space/);
    await accessible(page, "full");
    await ask("make room");
    await page.locator("body[data-state=well]").waitFor();
    await end();
    step("a full disk, and its end");
  },
  /** It says that it is cut off, and goes on when the server is back. */
  async restart() {
    // The browser tells of each try; that is the point here.
    const { page, end } = await open({ may: ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"] });
    await live(page);
    await ask("stop");
    await page.locator("#live.off").waitFor();
    assert.match(await page.locator("#liveword").textContent(), /cut off since \d\d:\d\d:\d\d/);
    assert.match(await page.locator("#sentence").textContent(), /cut off/);
    await ask("start");
    await live(page);
    await page.locator("#sentence", { hasText: "All is well" }).waitFor();
    await end();
    step("it survives a restart");
  },
  /** What is looked for is looked for again; where nobody answers, nobody says that it is not there. */
  async finds() {
    const { page, end } = await open({ may: ["status of 503", "ERR_FAILED"] }, url + "#host-10");
    await live(page);
    await page.locator("#found", { hasText: "No unfinished upload" }).waitFor();
    await page.route("**/v1/sessions?*", (route) => route.fulfill({ status: 503, body: '{"ok":false,"message":"no"}\n' }));
    await page.route("**/v1/folders*", (route) => route.fulfill({ status: 503, body: '{"ok":false,"message":"no"}\n' }));
    await page.locator("#n-found", { hasText: "did not answer all of it" }).waitFor();
    assert.doesNotMatch(await page.locator("#found").textContent(), /No unfinished upload/);
    await ask("begin");
    await page.unroute("**/v1/sessions?*");
    const row = page.locator("#found tr", { hasText: "/host-10/late.zip" });
    await row.waitFor();
    await page.locator("#n-found", { hasText: "one unfinished upload" }).waitFor();
    step("it comes by itself");
    await page.route("**/v1/sessions?*", (route) => route.abort());
    await page.locator("#n-found", { hasText: "did not answer all of it" }).waitFor();
    assert.equal(await row.count(), 1);
    step("what was found stays");
    await end();
  },
  /** Pictures for the documents. */
  async pictures() {
    for (const [name, options] of [
      ["page-light", {}],
      ["page-dark", { colorScheme: "dark" }],
      ["page-narrow", { viewport: { width: 390, height: 1100 } }],
    ]) {
      const { page, end } = await open({ viewport: { width: 1280, height: 1180 }, ...options });
      await live(page);
      await page.locator("#busy progress").first().waitFor();
      await page.waitForTimeout(2_500);
      await page.screenshot({ path: `${folder}/${name}.png` });
      await end();
    }
  },
};
try {
  await SCENARIOS[scenario]();
  console.log("well");
} finally {
  await browser.close();
}
process.exit(0);
