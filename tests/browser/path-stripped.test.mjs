// Tests the dashboard and the Swagger page behind a proxy that strips the beginning of the path.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openPage } from "./browser.mjs";
import { ADMIN } from "./operator.mjs";
import { startProxy } from "./proxy.mjs";

const PREFIX = "/team/broker";
const timeout = 60_000;
let proxy, root;

before(async () => {
  proxy = await startProxy(({ url, headers }) =>
    (url.startsWith(`${PREFIX}/`) ? { path: url.slice(PREFIX.length), headers } : { status: 404 }));
  root = `${proxy.address}${PREFIX}`;
});

after(() => proxy?.stop());

test("the dashboard works, with and without a slash at the end of its path", { timeout }, async () => {
  for (const path of ["/dashboard", "/dashboard/"]) {
    const { page, expectErrors, assertNoErrors } = await openPage(root);
    await page.goto(`${root}${path}`);
    await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
    expectErrors(/status of 401 .*\/admin\/me$/);
    await page.getByLabel("Token", { exact: true }).fill(ADMIN);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
    // Other tests may have deleted sandboxes of the same broker.
    await page.locator(".tile.total dd", { hasText: /^\d+$/ }).waitFor();
    await page.getByRole("link", { name: "Sandboxes" }).click();
    await page.getByText(/^Loaded at/).waitFor();
    assertNoErrors();
    await page.close();
  }
});

test("the Swagger page calls the broker through the proxy", { timeout }, async () => {
  const { page, assertNoErrors } = await openPage(root);
  await page.goto(`${root}/v1/docs`);
  assert.equal(page.url(), `${root}/v1/docs/`);
  const health = page.locator("#operations-Health-healthz");
  await health.locator(".opblock-summary").click();
  await health.getByRole("button", { name: "Execute" }).click();
  const response = health.locator(".live-responses-table .response");
  await response.waitFor();
  assert.equal((await response.locator(".response-col_status").innerText()).trim().split("\n")[0], "200");
  assertNoErrors();
});
