// Starts one Chromium for the tests of a file, and watches each page for errors and for requests to other hosts.
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

/**
 * Opens a page. `assertNoErrors` fails if the page has logged an error that no `expectErrors(pattern)` has removed, or
 * has sent a request to a URL that does not begin with `root`.
 */
export async function openPage(root = base) {
  const page = await context.newPage();
  let errors = [];
  const foreignUrls = [];
  page.on("console", (message) => message.type() === "error" && errors.push(`${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(root) && !url.startsWith("data:") && !url.startsWith("blob:")) foreignUrls.push(url);
  });
  const expectErrors = (pattern) => {
    errors = errors.filter((text) => !pattern.test(text));
  };
  const assertNoErrors = () => {
    assert.deepEqual(errors, [], "the page logged errors, or the Content-Security-Policy blocked something");
    assert.deepEqual(foreignUrls, [], "the page sent requests to other places");
  };
  return { page, expectErrors, assertNoErrors };
}
