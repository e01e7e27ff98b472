// The page of a stream in headless Chromium: windows appear while the stream comes, other
// sites read nothing, a lost connection is said and found again, and what is drawn at the end
// is what a report of the same lines draws.
//
// node live.mjs MTCAE SOURCE_TREE OUT: as walk.mjs.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { launch, now, pixels, text } from "./browser.mjs";

const [mtcae, tree, out] = process.argv.slice(2);
const started = Date.now();
const step = (name) => console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(5)} s  ${name}`);
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

// The demo's portrait, whose windows come as its bytes do.
const video = readFileSync(join(tree, "fixtures/demo/portrait.mp4"));
const secret = "a-token-of-the-test";
const programs = [];
process.on("exit", () => programs.forEach((program) => program.kill("SIGKILL")));

/** Follows a stream; what is said at first has the address of the page. */
async function follow(address, ...args) {
  const program = spawn(mtcae, ["infer", "-", "--serve", address, "--window", "1", "--stride", "0.25", "--people", "all",
    "--late", "wait", "--checkpoint", join(tree, "fixtures/default"), ...args],
  { cwd: out, env: { ...process.env, MTCAE_SERVE_TOKEN: secret }, stdio: ["pipe", "ignore", "pipe"] });
  programs.push(program);
  program.stdin.on("error", () => {});
  let said = "";
  const url = await new Promise((done, failed) => {
    program.stderr.on("data", (data) => {
      said += data;
      const [, url] = /live at (\S+)/.exec(said) ?? [];
      if (url) done(url);
    });
    program.on("exit", () => failed(new Error(said)));
  });
  return { program, url, end: new Promise((done) => program.on("exit", done)), said: () => said };
}

const browser = await launch();
const faults = [];
process.on("exit", (code) => code && faults.length && console.error(faults.join("\n")));
const page = await browser.newPage();
page.on("pageerror", (error) => faults.push(String(error)));
page.on("console", (message) => message.type() === "error" && faults.push(message.text()));

// Windows appear while bytes come.
const first = await follow("127.0.0.1:0", "--out", "session");
const { origin } = new URL(first.url);
await page.goto(first.url);
await page.waitForFunction(() => document.querySelector("#feed").textContent === "live");
assert.ok(!page.url().includes(secret), "the token stays in the address bar");
first.program.stdin.write(video.subarray(0, video.length * 0.75));
await page.waitForFunction(() => document.querySelectorAll("#rows .row").length === 1);
await page.waitForFunction(() => Number(document.querySelector("#line").getAttribute("aria-valuenow")) > 1);
const half = await now(page);
assert.ok(half < 2.9, `${half} s of 3 are there`);
assert.match(await text(page, "#answer"), /happy/);
assert.ok((await pixels(page, "#overlay", [86, 220, 120])) > 100, "the model's box is green");
assert.equal(await page.locator("#save").isVisible(), false, "there is nothing to correct");
first.program.stdin.write(video.subarray(video.length * 0.75, video.length - 1));
first.program.stdin.end(video.subarray(video.length - 1));
await page.waitForFunction(() => /^the stream ended: \d+ windows$/.test(document.querySelector("#feed").textContent));
await page.waitForFunction((half) => Number(document.querySelector("#line").getAttribute("aria-valuenow")) > half, half);
// What has ended plays again from its start.
await page.locator("#play").click();
await page.waitForFunction(() => Number(document.querySelector("#line").getAttribute("aria-valuenow")) < 1);
await page.locator("#play").click();
await page.screenshot({ path: join(out, "live.png") });
step("windows appear");

// Pages of another origin read nothing, whatever they know.
const other = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<!doctype html>")).listen(0, "127.0.0.1");
await new Promise((done) => other.on("listening", done));
const stranger = await browser.newPage();
await stranger.goto(`http://127.0.0.1:${other.address().port}/`);
const read = await stranger.evaluate(async ([origin, secret]) => {
  const tries = {
    plain: () => fetch(`${origin}/v1/results`),
    token: () => fetch(`${origin}/v1/results`, { headers: { Authorization: `Bearer ${secret}` } }),
    opaque: () => fetch(`${origin}/v1/results`, { mode: "no-cors" }),
    page: () => fetch(`${origin}/`),
  };
  const all = {};
  for (const [name, attempt] of Object.entries(tries)) {
    all[name] = await attempt().then(async (answer) => answer.text(), () => "refused");
  }
  all.frame = await new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.onload = () => done(frame.contentDocument ? frame.contentDocument.body.textContent : "refused");
    frame.src = `${origin}/`;
    document.body.append(frame);
  });
  return all;
}, [origin, secret]);
for (const [name, got] of Object.entries(read)) assert.ok(got === "refused" || got === "", `${name}: ${got}`);
await stranger.close();
other.close();
step("other origins read nothing");

// At the end, and when it is loaded again, it shows what a report of the lines shows.
const drawn = async (page) => {
  await page.locator("#zoom-fit").click();
  await page.locator("#line").focus();
  await page.keyboard.press("End");
  await page.mouse.move(1, 1);
  return page.evaluate(() => document.querySelector("#plot").toDataURL());
};
execFileSync(mtcae, ["report", "session/stream.jsonl", "--out", "report.html", "--quiet"], { cwd: out });
const report = await browser.newPage();
await report.goto(pathToFileURL(join(out, "report.html")).href);
await report.waitForFunction(() => !document.querySelector("#clip").hidden);
const expected = await drawn(report);
await report.screenshot({ path: join(out, "report.png") });
await report.close();
assert.ok((await drawn(page)) === expected, "the page of the stream draws what its report draws");
await page.reload();
await page.waitForFunction(() => /^the stream ended/.test(document.querySelector("#feed").textContent));
await page.waitForFunction(() => !document.querySelector("#clip").hidden);
assert.ok((await drawn(page)) === expected, "and so it does when it is loaded again");
assert.deepEqual(faults, []);
first.program.kill("SIGINT");
await first.end;
assert.match(first.said(), /the page stays at 127\.0\.0\.1:\d+; Ctrl-C ends it/);
step("the same as its report");

// A program that goes, and comes again at the same place.
const second = await follow(new URL(origin).host);
await page.goto("about:blank");
await page.goto(second.url);
second.program.stdin.write(video.subarray(0, video.length * 0.75));
await page.waitForFunction(() => document.querySelectorAll("#rows .row").length === 1);
second.program.kill("SIGKILL");
await page.waitForFunction(() => document.querySelector("#feed").textContent.startsWith("connection lost"));
assert.equal(await page.locator("#rows .row").count(), 1, "what there was stays");
const third = await follow(new URL(origin).host);
third.program.stdin.end(video);
await page.waitForFunction(() => /^the stream ended: \d+ windows$/.test(document.querySelector("#feed").textContent));
await page.waitForFunction(() => Number(document.querySelector("#line").getAttribute("aria-valuenow")) > 2.9);
third.program.kill("SIGKILL");
assert.deepEqual(faults.filter((f) => !/ERR_CONNECTION|ERR_INCOMPLETE|net::/.test(f)), []);
step("a lost connection is found again");

// A wrong token is said.
const fourth = await follow("127.0.0.1:0");
await page.goto("about:blank");
await page.goto(fourth.url.replace(secret, "another-token-of-the-test"));
await page.waitForFunction(() => document.querySelector("#feed").textContent.startsWith("the token is not right"));
fourth.program.kill("SIGKILL");
await browser.close();
step("done");
process.exit(0);
