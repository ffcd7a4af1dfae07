// Tests what people in different roles see and do: who is signed in, pauses, the audit page, and tokens.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { openPage } from "./browser.mjs";
import { ADMIN, api, createToken, openDashboard, send } from "./operator.mjs";
import { startProxy } from "./proxy.mjs";

const timeout = 120_000;
const REVOCATION_MS = 40_000; // In force after 30 s; the page polls every 4 s.
// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";
let opened = [];

/** Opens the dashboard, which is closed after the test. */
async function open() {
  const dashboard = await openDashboard();
  opened.push(dashboard);
  return dashboard;
}

afterEach(async () => {
  const closing = opened;
  opened = [];
  for (const { page } of closing) await page.close();
  for (const { assertNoErrors } of closing) assertNoErrors();
});

/** Opens the dashboard, signed in with a new token of a role. */
async function openAs(role, name = `${role}-${Date.now()}`) {
  const created = await createToken(name, role);
  const dashboard = await open();
  await dashboard.signIn(created.secret);
  await dashboard.page.getByText(`${name} (${role})`).waitFor();
  return { ...dashboard, ...created };
}

/** The card of a job or an activity. */
const card = (page, name) => page.locator(".action", { has: page.getByRole("heading", { level: 3, name }) });

async function endPauses() {
  for (const activity of ["allocations", "deletions", "sync", "expiry", "refill"]) await send("DELETE", `/admin/pauses/${activity}`);
}

test("a viewer sees no buttons that change something, and the API refuses them", { timeout }, async () => {
  const { page, openView, openSandboxes, secret } = await openAs("viewer");
  for (const view of ["Jobs", "Pauses", "Audit", "NIOSXaaS", "Overview"]) {
    await openView(view);
    await page.waitForLoadState("networkidle");
    const buttons = (await page.locator("main button:visible").allInnerTexts()).filter((text) => !["Apply", "Clear", "Reload", "Export CSV", "Older"].includes(text));
    assert.deepEqual(buttons, [], view);
  }
  assert.equal(await page.getByRole("heading", { name: "Start a job" }).count(), 0);
  await openSandboxes();
  await page.locator("table.sandboxes tbody th button").first().click();
  assert.deepEqual(await page.getByRole("dialog").getByRole("button").allInnerTexts(), ["Close"]);
  await page.keyboard.press("Escape");

  assert.equal(await page.getByRole("link", { name: "Tokens" }).count(), 0);
  await page.evaluate(() => (location.hash = "#/tokens"));
  await page.getByText("This page needs the role admin.").waitFor();
  for (const [method, path, body] of [
    ["POST", "/admin/sync"], ["PUT", "/admin/pauses/sync", { reason: "no" }], ["DELETE", "/admin/pauses/sync"],
    ["POST", "/admin/bulk-delete?status=stale"], ["GET", "/admin/tokens"], ["POST", "/admin/tokens", { name: "x", role: "admin" }],
  ]) {
    const { status, json } = await send(method, path, { token: secret, body });
    assert.equal(status, 403, `${method} ${path}`);
    assert.match(json.error.message, /role (operator|admin)/);
  }
});

test("an operator starts jobs, but neither removes sandboxes in bulk nor sees the tokens", { timeout }, async () => {
  const { page, openView } = await openAs("operator");
  await openView("Jobs");
  await card(page, "Sync with CSP").getByRole("button").waitFor();
  assert.equal(await page.getByText("Remove all stale").count(), 0);
  await page.goto(`${page.url().split("#")[0]}#/tokens`);
  await page.getByText(/This page needs the role admin\. You are signed in as operator-\d+ with the role operator\./).waitFor();
  assert.equal(await page.title(), "Tokens – Sandbox Broker");
});

test("the page asks for the role again when a request is refused", { timeout }, async () => {
  const { page, openView, expectErrors } = await openAs("operator", `changing-${Date.now()}`);
  await page.route("**/admin/me", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), role: "viewer" } });
  });
  await page.route("**/admin/pauses/sync", (route) => route.fulfill({ status: 403, json: { error: { code: "FORBIDDEN", message: "no" } } }));
  await openView("Pauses");
  await page.getByRole("button", { name: "Pause syncs" }).click();
  await page.getByRole("dialog").getByLabel("Reason").fill("for the role");
  await page.getByRole("dialog").getByRole("button", { name: "Pause" }).click();
  await page.getByText(/^You are now signed in as changing-\d+ with the role viewer\.$/).waitFor();
  await page.getByRole("heading", { level: 1, name: "Pauses" }).waitFor();
  assert.equal(await page.locator(".action button").count(), 0);
  expectErrors(/status of 403/);
});

test("a person whom the load balancer signed in needs no token, and signing out says why it does not last", { timeout }, async () => {
  const { secret } = await createToken(`balancer-${Date.now()}`, "operator");
  const me = { name: "jo@example.com", role: "operator", signed_in_by: "load_balancer", token_id: null, expires_at: null };
  let isSignedIn = true;
  const calls = [];
  const balancer = await startProxy(({ method, url, headers }) => {
    if (!url.startsWith("/v1/")) return { path: url, headers };
    calls.push({ method, authorization: headers.authorization, site: headers["sec-fetch-site"] });
    if (!isSignedIn) return { status: 401 };
    if (url.endsWith("/admin/me")) return { status: 200, json: me };
    return { path: url, headers: { ...headers, authorization: `Bearer ${secret}` } };
  });
  const { page, expectErrors, assertNoErrors } = await openPage(balancer.address);
  await page.goto(`${balancer.address}/dashboard`);
  await page.getByText("jo@example.com (operator)").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.getByRole("link", { name: "Jobs" }).click();
  await card(page, "Expire allocations").getByRole("button").click();
  await page.getByRole("dialog").getByRole("button", { name: "Expire allocations" }).click();
  await page.locator(".run").getByText(/^succeeded/).waitFor();
  assert.ok(calls.some(({ method }) => method === "POST"));
  // The broker requires this header for changes by people without a token.
  for (const { authorization, site } of calls) assert.deepEqual([authorization, site], [undefined, "same-origin"]);

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByText("The load balancer still signs you in as jo@example.com").waitFor();
  await page.getByRole("button", { name: "Continue as before" }).click();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();

  isSignedIn = false;
  const dialog = page.getByRole("dialog", { name: "Sign in" });
  await dialog.getByText("Your single sign-on has ended.").waitFor();
  await dialog.getByRole("button", { name: "Continue" }).click();
  await dialog.getByText("You are not signed in at the load balancer yet.").waitFor();
  isSignedIn = true;
  await dialog.getByRole("button", { name: "Continue" }).click();
  await dialog.waitFor({ state: "detached" });

  // A person without a role is told so in the words of the broker.
  await page.route("**/admin/me", (route) => route.fulfill({ status: 403, json: { error: { code: "FORBIDDEN", message: "jo is signed in, but has no role here." } } }));
  await page.reload();
  await page.getByRole("alert").getByText("jo is signed in, but has no role here.").waitFor();
  await page.close();
  balancer.stop();
  expectErrors(/status of 40[13]/);
  assertNoErrors();
});

test("an operator pauses and resumes with the keyboard only, and the banner is on every page", { timeout }, async () => {
  await endPauses();
  const { page, token } = await openAs("operator");
  /** Presses Tab, or Shift+Tab, until the element has the focus. */
  async function tabTo(locator, key = "Tab") {
    await locator.waitFor();
    for (let presses = 0; presses < 60; presses += 1) {
      if (await locator.evaluate((element) => element === document.activeElement)) return;
      await page.keyboard.press(key);
    }
    assert.fail(`${locator} cannot be reached with Tab`);
  }

  await tabTo(page.getByRole("link", { name: "Pauses" }));
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Pauses" }).waitFor();
  const button = page.getByRole("button", { name: "Pause deletions …" });
  await tabTo(button);
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Pause deletions" });
  await page.keyboard.press("Enter");
  await dialog.getByText("Enter the reason.").waitFor();
  assert.ok(await dialog.getByLabel("Reason").evaluate((element) => element === document.activeElement));
  await page.keyboard.type(`CSP is being repaired ${HTML}`);
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });
  const banner = page.locator("#pauses");
  await banner.getByText("Deletions paused").waitFor({ timeout: 10_000 });
  assert.match(await banner.innerText(), new RegExp(`by ${token.name}, until somebody ends it: CSP is being repaired <img`));
  assert.equal(await banner.getAttribute("role"), "status");
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  for (const name of ["Overview", "Sandboxes", "Jobs", "Audit", "NIOSXaaS"]) {
    await tabTo(page.getByRole("link", { name }), "Shift+Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name }).waitFor();
    assert.ok(await banner.getByText("Deletions paused").isVisible(), name);
  }

  await tabTo(page.getByRole("link", { name: "Pauses" }), "Shift+Tab");
  await page.keyboard.press("Enter");
  const end = page.getByRole("button", { name: "End the pause of deletions …" });
  await tabTo(end);
  await page.keyboard.press("Enter");
  const confirmation = page.getByRole("dialog", { name: "End the pause of deletions?" });
  assert.ok(await confirmation.getByRole("button", { name: "Cancel" }).evaluate((element) => element === document.activeElement));
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await banner.getByText("Deletions paused").waitFor({ state: "detached", timeout: 10_000 });
  await page.locator("#announcer").getByText(/Deletions: (the pause was ended|no longer paused)\./).waitFor();
  assert.ok(await button.evaluate((element) => element === document.activeElement), "the button keeps the focus");
});

test("a pause with an end disappears by itself, and its end can be changed", { timeout }, async () => {
  await endPauses();
  const { page, openView } = await openAs("operator");
  const local = (secondsFromNow) => {
    const at = new Date(Date.now() + secondsFromNow * 1000);
    return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  };
  await openView("Pauses");
  await page.getByRole("button", { name: "Pause refill" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill("no accounts today");
  await dialog.getByLabel("End (optional)").fill(local(-3600));
  await dialog.getByRole("button", { name: "Pause" }).click();
  await dialog.getByText("Enter a time in the future, or none.").waitFor();
  await dialog.getByLabel("End (optional)").fill(local(3600));
  await dialog.getByRole("button", { name: "Pause" }).click();
  await card(page, "Refill").getByText(/until \d{4}-/).waitFor();
  await page.getByRole("button", { name: "Change … the pause of refill" }).click();
  assert.equal(await dialog.getByLabel("Reason").inputValue(), "no accounts today");
  await dialog.getByLabel("Reason").fill("none tomorrow either");
  await dialog.getByRole("button", { name: "Change" }).click();
  await page.locator("#pauses").getByText("none tomorrow either").waitFor();

  const soon = Math.floor(Date.now() / 1000) + 3;
  await send("PUT", "/admin/pauses/refill", { body: { reason: "a moment", until: soon } });
  await page.locator("#pauses").getByText("Refill paused").waitFor({ state: "detached", timeout: 15_000 });
});

test("an admin creates a token, its owner signs in, and is thrown out when it is revoked", { timeout }, async () => {
  const admin = await open();
  await admin.signIn();
  await admin.openView("Tokens");
  const { page } = admin;
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const name = `ada-${Date.now()}`;
  const taken = `taken-${Date.now()}`;
  await createToken(taken, "viewer");
  await page.getByRole("button", { name: "Create a token …" }).click();
  const form = page.getByRole("dialog", { name: "Create a token" });
  await form.getByRole("button", { name: "Create" }).click();
  await form.getByText("Enter a name.").waitFor();
  await form.getByLabel("Name", { exact: true }).fill(taken);
  await form.getByLabel("Labs (optional)").fill("dns-101\n\n cloud-201 ");
  await form.getByRole("button", { name: "Create" }).click();
  await page.waitForFunction((name) => document.querySelector("dialog [aria-invalid]")?.value === name, taken);
  await form.getByLabel("Name", { exact: true }).fill(name);
  await form.getByLabel("Role").selectOption("operator");
  assert.ok(!await form.getByLabel("Labs (optional)").isVisible(), "only the role track has bounds");
  await form.getByRole("button", { name: "Create" }).click();
  admin.expectErrors(/status of 409/);

  const dialog = page.getByRole("dialog", { name: `Secret of ${name}` });
  const secret = await dialog.getByLabel("Secret").inputValue();
  assert.match(secret, /^sbt_/);
  await page.keyboard.press("Escape");
  await dialog.getByText("The secret has not been copied, and cannot be shown again.").waitFor();
  await dialog.getByRole("button", { name: "Copy", exact: true }).click();
  await dialog.getByText("Copied.").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
  await dialog.getByRole("button", { name: "Close" }).click();
  await dialog.waitFor({ state: "detached" });
  await page.waitForFunction((text) => !document.documentElement.outerHTML.includes(text), secret);
  const line = page.getByRole("row", { name: new RegExp(name) });
  await line.getByText("never expires").waitFor();

  const ada = await open();
  await ada.signIn(secret);
  await ada.page.getByText(`${name} (operator)`).waitFor();
  await ada.openView("Jobs");
  await line.getByRole("button", { name: "Revoke" }).click();
  const confirmation = page.getByRole("dialog", { name: `Revoke ${name}?` });
  await confirmation.getByText("People who are signed in with it are signed out").waitFor();
  await confirmation.getByRole("button", { name: "Revoke" }).click();
  await line.getByText("revoked by env-admin").waitFor();
  assert.equal(await line.getByRole("button").count(), 0);
  await ada.page.getByRole("dialog", { name: "Sign in" }).getByText("it was revoked or replaced").waitFor({ timeout: REVOCATION_MS });
  assert.equal(await ada.page.evaluate(() => sessionStorage.length), 0);
  await ada.page.getByLabel("Token", { exact: true }).fill(secret);
  await ada.page.getByRole("button", { name: "Sign in" }).click();
  await ada.page.getByText("The token is not valid.").waitFor();

  // Another person starts anew, on the page where the first one was.
  await ada.page.getByLabel("Token", { exact: true }).fill(ADMIN);
  await ada.page.getByRole("button", { name: "Sign in" }).click();
  await ada.page.getByText("env-admin (admin)").waitFor();
  await ada.page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  ada.expectErrors(/status of 401/);
});

test("the secret of a token is not lost by accident", { timeout }, async () => {
  const { page, signIn, openView } = await open();
  await signIn();
  await openView("Jobs");
  await openView("Tokens");
  const name = `kept-${Date.now()}`;
  await page.getByRole("button", { name: "Create a token …" }).click();
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
  const dialog = page.getByRole("dialog", { name: `Secret of ${name}` });
  await dialog.waitFor();
  await page.goBack();
  assert.ok(await dialog.isVisible(), "the back button does not close it");
  await dialog.getByRole("button", { name: "Close", exact: true }).click();
  await dialog.getByText("Close anyway?").waitFor();
  await dialog.getByRole("button", { name: "Close without copying" }).click();
  await dialog.waitFor({ state: "detached" });
});

test("audit records are filtered by the address, paged and exported", { timeout }, async () => {
  const reason = `=1+1,"${HTML}"`;
  const author = await createToken(`author-${Date.now()}`, "operator");
  const { name } = author.token;
  for (let turn = 0; turn < 3; turn += 1) {
    for (const method of ["PUT", "DELETE"]) {
      const { status } = await send(method, "/admin/pauses/refill", { token: author.secret, body: method === "PUT" ? { reason } : undefined });
      assert.ok(status === 200 || status === 204);
    }
  }
  assert.equal((await send("GET", "/admin/tokens", { token: author.secret })).status, 403);
  // The broker writes records of refusals a little later.
  while ((await api(`/admin/audit?actor=${name}`)).count < 7) await new Promise((resolve) => setTimeout(resolve, 100));

  const { page, signIn, openView, exportedRows } = await open();
  await signIn();
  await openView("Audit");
  const rows = page.locator("table.audit tbody tr");
  const found = page.locator(".found");
  await page.getByLabel("Actor").fill(name);
  await page.getByRole("button", { name: "Apply" }).click();
  await found.getByText(/^7 records/).waitFor();
  assert.equal(await rows.getByText(`${name} (operator)`).count(), 7);
  await page.getByLabel("Action").selectOption("pause.set");
  await page.getByRole("button", { name: "Apply" }).click();
  await found.getByText(/^3 records/).waitFor();
  assert.equal(await rows.first().locator(".reason").innerText(), reason);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  assert.match(page.url(), new RegExp(`#/audit\\?actor=${name}&action=pause.set$`));

  const [header, ...lines] = await exportedRows("audit");
  const field = (key) => lines.map((line) => line[header.indexOf(key)]);
  assert.deepEqual(field("reason"), Array(3).fill(`'${reason}`));
  assert.deepEqual(field("actor"), Array(3).fill(name));
  await page.getByText("3 records exported.").waitFor();

  await page.reload();
  await found.getByText(/^3 records/).waitFor();
  assert.equal(await page.getByLabel("Action").inputValue(), "pause.set");
  await page.getByLabel("Action").selectOption("");
  await page.getByLabel("Outcome").fill("FORBIDDEN");
  await page.getByRole("button", { name: "Apply" }).click();
  await found.getByText(/^1 record/).waitFor();
  await rows.getByText("refused: FORBIDDEN").waitFor();
  await page.getByLabel("Outcome").fill("");
  await page.getByLabel("From").fill("2020-01-01T00:00");
  await page.getByLabel("To", { exact: true }).fill("2020-01-02T00:00");
  await page.getByRole("button", { name: "Apply" }).click();
  await found.getByText(/^No records/).waitFor();
  await page.getByRole("button", { name: "Clear" }).click();
  await page.waitForFunction(() => location.hash === "#/audit");
  await rows.first().waitFor();
});

test("older records are read page by page, also over empty pages, and a target leads to its sandbox", { timeout }, async () => {
  const record = (n) => ({
    at: 1_774_000_000 - n, at_ms: 0, actor: "ada", role: "operator", action: "sandbox.quarantine", target: `sandbox/${n}`,
    outcome: "done", reason: "broken", before: { status: "available" }, after: { status: "quarantined" }, request_id: `r-${n}`, address: "192.0.2.1",
  });
  const pages = { null: ["a", [1, 2]], a: ["b", []], b: ["c", [3]], c: [null, []] };
  const { page, signIn, openView, expectErrors } = await open();
  await page.route("**/admin/audit*", (route) => {
    const [cursor, numbers] = pages[new URL(route.request().url()).searchParams.get("cursor")];
    return route.fulfill({ json: { records: numbers.map(record), count: numbers.length, cursor } });
  });
  await signIn();
  await openView("Audit");
  const older = page.getByRole("button", { name: "Older" });
  await page.getByText("2 records so far; there may be older ones.").waitFor();
  await older.click();
  await page.getByText("3 records so far; there may be older ones.").waitFor();
  assert.ok(await page.locator("table.audit tbody tr").nth(2).evaluate((row) => row === document.activeElement));
  await older.click();
  await page.getByText(/^3 records at/).waitFor();
  assert.ok(!await older.isVisible());
  await page.getByRole("link", { name: "sandbox/3" }).click();
  await page.getByRole("heading", { level: 1, name: "Sandboxes" }).waitFor();
  assert.match(page.url(), /#\/sandboxes\/3$/);
  await page.getByText("Nothing is known of this sandbox").waitFor();
  expectErrors(/status of 404/);
});

test("an export of the audit records can be cancelled", { timeout }, async () => {
  const { page, signIn, openView } = await open();
  let answer;
  await page.route("**/admin/audit*limit=1000*", (route) => { answer = () => route.fulfill({ json: { records: [], count: 0, cursor: "next" } }); });
  await signIn();
  await openView("Audit");
  await page.getByRole("button", { name: "Export CSV" }).click();
  await page.getByText("Reading …").waitFor();
  const cancel = page.getByRole("button", { name: "Cancel export" });
  await cancel.click();
  await page.getByText("Cancelled.").waitFor();
  await answer();
  await page.getByRole("button", { name: "Export CSV" }).waitFor();
});
