// A Chromium for the tests of a file, with a profile of its own; and what a page may not do.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";

export const require = createRequire(`${process.env.NODE_MODULES}/`);
export const base = process.env.BROKER_URL;
const { chromium } = require("playwright-core");
let context, profile;

before(async () => {
  profile = await mkdtemp(join(tmpdir(), "browser-"));
  context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-proxy-server"],
  });
});

after(async () => {
  await context?.close();
  await rm(profile, { recursive: true, force: true });
});

/** A new page, and a check that it complained of nothing but what was expected, and asked no other host. */
export async function openPage() {
  const page = await context.newPage();
  let complaints = [];
  const elsewhere = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:") && !url.startsWith("blob:")) elsewhere.push(url);
  });
  const expectComplaints = (pattern) => {
    complaints = complaints.filter((text) => !pattern.test(text));
  };
  const assertQuiet = () => {
    assert.deepEqual(complaints, [], "the page complains, or the policy stands in its way");
    assert.deepEqual(elsewhere, [], "the page asks other hosts");
  };
  return { page, expectComplaints, assertQuiet };
}
