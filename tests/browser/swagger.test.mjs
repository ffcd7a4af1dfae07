// The Swagger page under the broker's own Content-Security-Policy: an operator signs in and tries an endpoint.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

const { chromium } = createRequire(`${process.env.NODE_MODULES}/`)("playwright-core");
const base = process.env.BROKER_URL;
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

test("an operator tries an endpoint out", { timeout: 60_000 }, async () => {
  const page = await context.newPage();
  const complaints = [], elsewhere = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:") && !url.startsWith("blob:")) elsewhere.push(url);
  });
  await page.goto(`${base}/v1/docs/`);

  await page.getByRole("button", { name: "Authorize" }).first().click();
  const admin = page.locator(".auth-container", { hasText: "admin_token" });
  await admin.locator("input").fill("dev-admin-token");
  await admin.getByRole("button", { name: "Apply credentials" }).click();
  await page.getByRole("button", { name: "Close" }).first().click();

  const stats = page.locator("#operations-Admin-stats");
  await stats.locator(".opblock-summary").click();
  await stats.getByRole("button", { name: "Execute" }).click();
  const answer = stats.locator(".live-responses-table .response");
  await answer.waitFor();
  assert.equal((await answer.locator(".response-col_status").innerText()).trim().split("\n")[0], "200");
  assert.match(await answer.locator(".response-col_description").innerText(), /"available":\s*200/);

  assert.deepEqual(complaints, [], "the page's policy stands in its way");
  assert.deepEqual(elsewhere, [], "the page asks other hosts");
});
