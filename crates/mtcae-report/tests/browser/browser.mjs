// Chromium, and what is looked at in its pages.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--enable-precise-memory-info", "--autoplay-policy=no-user-gesture-required"];

/** A browser with a profile of its own, which goes with it. */
export async function launch() {
  const profile = mkdtempSync(join(tmpdir(), "report-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: flags,
    viewport: { width: 1440, height: 900 }, acceptDownloads: true,
  });
  // Its processes write a little longer than it is open.
  process.on("exit", () => rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));
  return browser;
}

export const text = (page, selector) => page.locator(selector).innerText();
export const now = (page) => page.locator("#line").getAttribute("aria-valuenow").then(Number);

/** How many pixels of a part of a canvas are about this colour. */
export const pixels = (page, selector, colour) => page.evaluate(([selector, colour]) => {
  const canvas = document.querySelector(selector);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 200 && [0, 1, 2].every((k) => Math.abs(data[i + k] - colour[k]) < 12)) count += 1;
  }
  return count;
}, [selector, colour]);
