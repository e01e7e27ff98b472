// Walks through a report in headless Chromium: load, scrub, filter, correct, save, and train
// on what was saved; dark and light, 360 pixels wide, an hour of three people.
//
// node walk.mjs MTCAE SOURCE_TREE OUT: the program, the tree that it was built from, and a
// folder for what is written, pictures of the page among it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { launch, now, pixels, text } from "./browser.mjs";
import { hour } from "./hour.mjs";

const [mtcae, tree, out] = process.argv.slice(2);
const started = Date.now();
const step = (name) => console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(5)} s  ${name}`);
const run = (...args) => execFileSync(mtcae, args, { cwd: out, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

// What is looked at: the demo's clips in a folder whose name a URL and a page must escape.
const videos = "100% <b>clips & 'é'";
rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, videos), { recursive: true });
const clips = ["portrait", "rendered", "scanned"];
for (const name of clips) copyFileSync(join(tree, `fixtures/demo/${name}.mp4`), join(out, videos, `${name}.mp4`));
run("infer", videos, "--out", "results", "--window", "1", "--stride", "0.5", "--format", "json", "--report", "--quiet",
  "--checkpoint", join(tree, "fixtures/default"));
writeFileSync(join(out, videos, "known.csv"), "file,class,subject\nportrait.mp4,happy,one\nscanned.mp4,sad,two\n");
run("report", "results", "--out", "page.html", "--labels", join(videos, "known.csv"), "--quiet");
step("results and pages written");

const browser = await launch();

/** Opens a page; faults of its script and refusals of its policy end the test. */
const faults = [];
process.on("exit", (code) => code && faults.length && console.error(faults.join("\n")));
async function visit(name, hash = "") {
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("request", (request) => /^(file|data|blob):/.test(request.url()) || faults.push(`asks for ${request.url()}`));
  page.on("dialog", (dialog) => dialog.accept());
  await page.goto(pathToFileURL(join(out, name)).href + hash);
  return page;
}

const picture = (page, name) => page.screenshot({ path: join(out, `${name}.png`) });
const video = (page) => page.evaluate(() => document.querySelector("video").currentTime);
const settled = (page) => page.waitForFunction(() => !document.querySelector("video").seeking);

// Load: the table, the first clip beside it, its curve.
const page = await visit("page.html");
await page.waitForFunction(() => document.querySelector("video").readyState >= 2);
assert.equal(await page.locator("#rows .row").count(), 3);
assert.match(await text(page, "#name"), /portrait\.mp4/);
assert.equal(await page.locator("b", { hasText: "clips &" }).count(), 0, "a name became markup");
assert.ok((await pixels(page, "#plot", [230, 159, 0])) > 1500, "happy's curve and lane are orange");
assert.ok((await pixels(page, "#overlay", [86, 220, 120])) > 100, "the model's box is green");
assert.ok((await pixels(page, "#overlay", [90, 180, 255])) > 50, "MTCNN's box is blue");
step("loads");

// Scrub: by keys and by pointer, the playhead, the video and the boxes go together.
const boxAt = () => page.locator("#frame").getAttribute("data-face");
const results = JSON.parse(readFileSync(join(out, "results/portrait.json"), "utf8"));
const line = page.locator("#line");
await line.focus();
await page.keyboard.press("Home");
assert.equal(await now(page), 0);
await page.keyboard.press("ArrowRight");
await settled(page);
assert.ok(Math.abs((await now(page)) - 1) < 0.06, `a second on: ${await now(page)}`);
assert.ok(Math.abs((await video(page)) - (await now(page))) < 0.06, "the video is where the playhead is");
const first = await boxAt();
await page.keyboard.press(".");
await settled(page);
const looked = results.timelines[0].windows.flatMap((w) => w.frames);
const here = await now(page);
const frame = looked.reduce((a, b) => (Math.abs(b.time - here) < Math.abs(a.time - here) ? b : a));
assert.ok(Math.abs(frame.time - here) < 0.02, `${here} is a frame's time, ${frame.time}`);
assert.notEqual(await boxAt(), first);
// Of windows that overlap, either may have said where this frame's face is.
const said = looked.filter((f) => f.index === frame.index).map((f) => f.face_box);
const shown = (await boxAt()).split(" ").map(Number);
const off = said.map((b) => Math.max(Math.abs(b.x1 / 480 - shown[0]), Math.abs(b.y1 / 360 - shown[1]), Math.abs(b.x2 / 480 - shown[2]), Math.abs(b.y2 / 360 - shown[3])));
assert.ok(Math.min(...off) < 4e-3, `the box is the one of the results: ${off}`);
const area = await line.boundingBox();
await page.mouse.move(area.x + area.width * 0.3, area.y + 80);
await page.mouse.down();
await page.mouse.move(area.x + area.width * 0.75, area.y + 80, { steps: 4 });
await page.mouse.up();
await settled(page);
const dragged = await now(page);
assert.ok(dragged > 1.5 && Math.abs((await video(page)) - dragged) < 0.06, `dragged to ${dragged}`);
await page.keyboard.press("Home");
await page.keyboard.press(" ");
await page.waitForFunction(() => document.querySelector("video").currentTime > 0.4);
await page.keyboard.press(" ");
await page.waitForFunction(() => document.querySelector("video").paused);
assert.ok(Math.abs((await video(page)) - (await now(page))) < 0.15, "playing moves the playhead");
await page.keyboard.press("End");
await settled(page);
await page.keyboard.press("ArrowLeft");
await settled(page);
await picture(page, "light");
step("scrubs");

// Filter and sort.
await page.keyboard.press("/");
await page.keyboard.type("scan");
assert.equal(await page.locator("#rows .row").count(), 1);
await page.locator("#words").fill("");
await page.locator("#by-state").selectOption("disagree");
assert.match(await text(page, "#rows .row"), /scanned\.mp4[^]*≠ sad/);
assert.match(await text(page, "#found"), /1 of 3 clips/);
await page.locator("#by-state").selectOption("");
await page.locator("#by-class").selectOption({ label: "happy" });
assert.equal(await page.locator("#rows .row").count(), 3);
await page.locator("#by-class").selectOption("none");
assert.equal(await page.locator("#rows .row").count(), 0);
await page.locator("#by-class").selectOption("");
await page.getByRole("button", { name: "File" }).click();
await page.getByRole("button", { name: "File" }).click();
assert.match(await page.locator("#rows .row").first().innerText(), /scanned/);
await page.getByRole("button", { name: "File" }).click();
step("filters and sorts");

// Correct: a clip as a whole, a stretch, one left out; undo; a reload keeps them.
await page.locator("#grid").focus();
await page.keyboard.press("Home");
await page.keyboard.press("Enter");
assert.match(await text(page, "#name"), /portrait/);
await page.keyboard.press("3");
await page.keyboard.press("4");
assert.match(await text(page, "#done"), /angry/);
await page.keyboard.press("u");
assert.match(await text(page, "#done"), /sad/);
await page.keyboard.press("j");
assert.match(await text(page, "#name"), /rendered/);
await page.keyboard.press("Home");
await page.keyboard.press("+");
await page.keyboard.press("r");
await page.keyboard.press("2");
assert.match(await text(page, "#done"), /happy[^]*0:00\.0 – 0:01\.0/);
await page.keyboard.press("j");
assert.match(await text(page, "#name"), /scanned/);
await page.keyboard.press("r");
await page.keyboard.press("0");
assert.match(await text(page, "#edited"), /^3 corrected$/);
await page.reload();
await page.waitForFunction(() => document.querySelector("#edited").textContent === "3 corrected");
step("corrects, and a reload keeps it");

// Save, and train on what was saved.
const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#save").click()]);
const labels = join(out, "corrections.jsonl");
await download.saveAs(labels);
assert.match(await text(page, "#edited"), /3 corrected, saved/);
assert.match(await text(page, "#saved"), /--root '100% <b>clips & /);
await picture(page, "saved");
const lines = readFileSync(labels, "utf8").trim().split("\n").map((l) => JSON.parse(l));
assert.deepEqual(lines.map((l) => [l.file, l.class]), [["portrait.mp4", "sad"], ["rendered.mp4", "happy"], ["scanned.mp4", null]]);
assert.equal(lines[0].subject, "one", "what labels say of the person is kept");
assert.equal(lines[0].sha256, results.provenance.source.sha256);
// The faces are MTCNN's, to the step of the page's numbers: half of 2/65534 of the picture,
// and half a unit of the fifth digit.
const track = lines[0].tracks[0].faces;
assert.ok(track.length > 20);
for (const f of track) {
  const { index } = lines[0].frames[f.frame];
  const found = looked.filter((l) => l.index === index && l.detected).map((l) => l.detected);
  const off = found.map((d) => Math.max(
    ...["x1", "y1", "x2", "y2"].map((k, i) => Math.abs(d.face_box[k] / [480, 360][i % 2] - f.box[i])),
    ...["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"].flatMap((k, p) => [0, 1].map((i) => Math.abs(d.landmarks[k][i] / [480, 360][i] - f.landmarks[p][i])))));
  assert.ok(Math.min(...off) < 1 / 65534 + 1e-5, `frame ${index}: ${off}`);
}
// Of a stretch the frames after it are there without a face: training stays within it.
const cut = lines[1].frames;
assert.ok(cut.at(-1).validity === "none" && cut.at(-2).time <= 1 && cut.at(-1).time > 1);
const tiny = JSON.parse(readFileSync(join(tree, "fixtures/demo/model.json"), "utf8"));
const { classes } = JSON.parse(readFileSync(join(tree, "fixtures/default/config.json"), "utf8"));
tiny.classes = classes;
tiny.preprocessing.crop = "face:1.3";
tiny.decoder.tasks.find((task) => task.name === "expression").outputs = classes.length;
writeFileSync(join(out, "tiny.json"), JSON.stringify(tiny));
run("init", "--config", "tiny.json", "--out", "tiny");
run("train", "--labels", labels, "--root", videos, "--checkpoint", "tiny", "--out", "trained",
  "--epochs", "1", "--batch", "2", "--validation", "0", "--allow-empty-classes", "true", "--quiet");
assert.ok(statSync(join(out, "trained/model/model.safetensors")).size > 0);
step("saves, and the labels train");

// The summary: what the matrix counts, and its way back to a clip.
await page.locator("#to-summary").click();
assert.match(await text(page, "#summary"), /50\.0 %[^]*right answers/);
assert.match(await text(page, "#summary"), /2 of 3 files have a label; 2 of 2 labels are used/);
assert.equal(await page.locator(".confusion td.right").first().innerText(), "1");
await picture(page, "summary");
await page.locator(".worst a").first().click();
await page.waitForFunction(() => document.querySelector("#name").textContent.includes("scanned"));

// Dark, as the system has it, and by the button.
await page.emulateMedia({ colorScheme: "dark" });
const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const dark = await ground();
await page.locator("#name").focus();
await picture(page, "dark");
await page.locator("#theme").click();
const light = await ground();
assert.notEqual(dark, light);
await page.locator("#theme").click();
assert.equal(await ground(), dark);
await page.locator("#theme").click();
await page.emulateMedia({ colorScheme: "light" });
await page.keyboard.press("?");
await picture(page, "keys");
await page.keyboard.press("Escape");

// A phone.
await page.setViewportSize({ width: 360, height: 740 });
const fits = async (what) => {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 360, `${what} is ${wide} pixels wide`);
};
await page.locator("#to-list").click();
await fits("the list");
const tops = await page.locator("#rows .row").evaluateAll((rows) => rows.map((r) => r.getBoundingClientRect()).map((r) => [r.top, r.bottom]));
assert.ok(tops[0][1] <= tops[1][0] + 1, "rows lie over each other");
await picture(page, "phone-list");
await page.locator("#rows .row").first().click();
await settled(page);
await fits("the clip");
await page.screenshot({ path: join(out, "phone-clip.png"), fullPage: true });
await page.locator("#to-summary").click();
await fits("the summary");
await page.screenshot({ path: join(out, "phone-summary.png"), fullPage: true });
await page.close();
step("summary, dark, light, a phone");

// Results that come while the page is open.
const fed = await visit("page.html");
await fed.evaluate(() => {
  const head = JSON.parse(document.querySelector("#head").textContent);
  const detail = { results: { ...head.results[0], file: "later.mp4", sha256: null }, pack: document.querySelector("#pack-0").textContent };
  document.dispatchEvent(new CustomEvent("mtcae:results", { detail }));
});
await fed.waitForFunction(() => document.querySelectorAll("#rows .row").length === 4);
assert.equal(await text(fed, "#tally"), "4 clips");
await fed.locator("#rows .row", { hasText: "later" }).click();
assert.ok((await pixels(fed, "#plot", [230, 159, 0])) > 1500, "its curve is drawn");
await fed.close();

// A video that is not there: the page says so, and its time goes on by itself.
rmSync(join(out, videos, "rendered.mp4"));
const lost = await visit("results/report.html", "#clip-1");
await lost.waitForSelector("#lost:not([hidden])");
assert.match(await text(lost, "#lost"), /cannot find or play rendered\.mp4/);
assert.ok((await pixels(lost, "#overlay", [86, 220, 120])) > 100);
await lost.locator("#line").focus();
await lost.keyboard.press(" ");
await lost.waitForFunction(() => Number(document.querySelector("#line").ariaValueNow) > 0.3);
await lost.close();
assert.equal(faults.splice(0).filter((f) => !f.includes("ERR_FILE_NOT_FOUND")).length, 0);
step("a missing video");

// An hour of three people.
const frames = await hour(join(out, "hour.json"), 3600, 3);
const before = Date.now();
run("report", "hour.json", "--out", "hour.html", "--quiet");
const took = (Date.now() - before) / 1000;
const size = statSync(join(out, "hour.html")).size;
step(`${frames} frames: a page of ${(size / 1e6).toFixed(1)} MB, written in ${took.toFixed(1)} s`);
const long = await visit("hour.html");
await long.waitForFunction(() => !document.querySelector("#clip").hidden);
const paint = await long.evaluate(() => new Promise((done) => {
  const all = () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime;
  const look = () => (all() === undefined ? setTimeout(look, 20) : done(all()));
  look();
}));
const loaded = await long.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventEnd);
await picture(long, "hour");
// All of it is looked at, zoomed and scrubbed, before memory is measured.
await long.locator("#line").focus();
const redraw = await long.evaluate(() => {
  const start = performance.now();
  for (let i = 0; i < 20; i += 1) document.querySelector(i % 2 ? "#zoom-out" : "#zoom-in").click();
  return (performance.now() - start) / 20;
});
for (const key of ["End", "+", "+", "+", "+", "+", "+", ",", "k"]) await long.keyboard.press(key);
await long.locator("#curve-units").click();
await picture(long, "hour-zoomed");
for (const button of await long.locator("#people button").all()) await button.click();
const heap = await long.evaluate(() => performance.memory.usedJSHeapSize);
const system = await browser.browser()?.newBrowserCDPSession() ?? await browser.newCDPSession(long);
const { processInfo } = await system.send("SystemInfo.getProcessInfo").catch(() => ({ processInfo: [] }));
const privately = processInfo.filter((p) => p.type === "renderer").map((p) => {
  const text = readFileSync(`/proc/${p.id}/smaps_rollup`, "utf8");
  return [...text.matchAll(/^Private_\w+: +(\d+)/gm)].reduce((sum, m) => sum + Number(m[1]), 0) * 1024;
});
const most = Math.max(heap, ...privately);
step(`first paint ${Math.round(paint)} ms, loaded ${Math.round(loaded)} ms, a redraw ${redraw.toFixed(1)} ms; heap ${Math.round(heap / 1e6)} MB, largest renderer's own memory ${Math.round(most / 1e6)} MB`);
assert.ok(paint < 1000, `the first paint takes ${paint} ms`);
assert.ok(most < 300e6, `${most} bytes`);
await long.close();

assert.deepEqual(faults.filter((f) => !f.includes("ERR_FILE_NOT_FOUND")), []);
await browser.close();
rmSync(join(out, "hour.json"));
step("done");
