// Tests the Swagger page under the broker's Content-Security-Policy.
import assert from "node:assert/strict";
import { test } from "node:test";
import { base, openPage } from "./browser.mjs";

test("an operator signs in and calls an endpoint", { timeout: 60_000 }, async () => {
  const { page, assertNoErrors } = await openPage();
  await page.goto(`${base}/v1/docs/`);

  await page.getByRole("button", { name: "Authorize" }).first().click();
  const admin = page.locator(".auth-container", { hasText: "admin_token" });
  await admin.locator("input").fill("dev-admin-token");
  await admin.getByRole("button", { name: "Apply credentials" }).click();
  await page.getByRole("button", { name: "Close" }).first().click();

  const stats = page.locator("#operations-Admin-stats");
  await stats.locator(".opblock-summary").click();
  await stats.getByRole("button", { name: "Execute" }).click();
  const response = stats.locator(".live-responses-table .response");
  await response.waitFor();
  assert.equal((await response.locator(".response-col_status").innerText()).trim().split("\n")[0], "200");
  assert.match(await response.locator(".response-col_description").innerText(), /"available":\s*\d+/);

  assertNoErrors();
});
