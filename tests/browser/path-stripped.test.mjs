// Tests the dashboard and the Swagger page behind a proxy that strips the beginning of the path.
import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { after, before, test } from "node:test";
import { base, openPage } from "./browser.mjs";
import { ADMIN } from "./operator.mjs";

const PREFIX = "/team/broker";
const timeout = 60_000;
let proxy, root;

before(async () => {
  const target = new URL(base);
  proxy = createServer((incoming, outgoing) => {
    if (!incoming.url.startsWith(`${PREFIX}/`)) return outgoing.writeHead(404).end();
    const options = { host: target.hostname, port: target.port, method: incoming.method, headers: incoming.headers };
    const forwarded = request({ ...options, path: incoming.url.slice(PREFIX.length) }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    forwarded.on("error", () => outgoing.destroy());
    incoming.pipe(forwarded);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  root = `http://127.0.0.1:${proxy.address().port}${PREFIX}`;
});

after(() => proxy?.close());

test("the dashboard works, with and without a slash at the end of its path", { timeout }, async () => {
  for (const path of ["/dashboard", "/dashboard/"]) {
    const { page, assertNoErrors } = await openPage(root);
    await page.goto(`${root}${path}`);
    await page.getByLabel("Token", { exact: true }).fill(ADMIN);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
    assert.equal(await page.locator(".tile.total dd").innerText(), "200");
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
