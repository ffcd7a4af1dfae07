// The steps of an operator at the dashboard, and the API calls that its figures are compared with.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { base, openPage } from "./browser.mjs";

export const ADMIN = "dev-admin-token";

/** Sends a request with a token, and returns its status and its JSON body, if it has one. */
export async function send(method, path, { token = ADMIN, body, at = base } = {}) {
  const response = await fetch(`${at}/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, json: text && JSON.parse(text) };
}

export async function api(path) {
  const { status, json } = await send("GET", path);
  assert.equal(status, 200, path);
  return json;
}

/** Creates a token, and returns `{token, secret}`. */
export async function createToken(name, role, more = {}) {
  const { status, json } = await send("POST", "/admin/tokens", { body: { name, role, ...more } });
  assert.equal(status, 201, JSON.stringify(json));
  return json;
}

/** Applies a policy, as TOML, and returns its version. */
export async function applyPolicy(text, token = ADMIN) {
  const { version } = await api("/admin/policy");
  const response = await fetch(`${base}/v1/admin/policy`, {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/toml", "if-match": `"${version}"` },
    body: text,
  });
  const json = await response.json();
  assert.equal(response.status, 200, JSON.stringify(json));
  return json.version;
}

export async function allSandboxes() {
  const rows = [];
  let cursor = null;
  do {
    const answer = await api(`/admin/sandboxes?limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    rows.push(...answer.sandboxes);
    cursor = answer.cursor;
  } while (cursor);
  return rows;
}

/** Sends a request as the script of a lab does. */
async function asTrack(path, caller, headers = {}) {
  const response = await fetch(`${base}/v1${path}`, {
    method: "POST",
    headers: { authorization: "Bearer dev-track-token", "x-instruqt-sandbox-id": caller, ...headers },
  });
  assert.ok(response.ok, `${path}: ${await response.clone().text()}`);
  return response.json();
}

export async function allocate(caller, lab, headers = {}) {
  const { sandbox_id: id } = await asTrack("/allocate", caller, { "x-instruqt-track-id": lab, ...headers });
  return { caller, id };
}

export const release = ({ caller, id }) => asTrack(`/sandboxes/${encodeURIComponent(id)}/mark-for-deletion`, caller);

/** Changes the answers of the broker to the requests of a page whose URL matches. */
export const editAnswers = (page, pattern, change) => page.route(pattern, async (route) => {
  const response = await route.fetch();
  await route.fulfill({ response, json: await change(await response.json()) });
});

/** Makes a page poll now, as a tab that is shown again does. */
export const refresh = (page) => page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));

/** Opens the dashboard in a new page, and returns the steps that many tests share. */
export async function openDashboard(at = base) {
  const opened = await openPage(at);
  const { page } = opened;
  await page.goto(`${at}/dashboard`);
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();

  function assertNoErrors() {
    // A page without a token asks whether the load balancer has signed the person in.
    opened.expectErrors(/status of 401 .*\/admin\/me$/);
    opened.assertNoErrors();
  }

  async function signIn(token = ADMIN) {
    await page.getByLabel("Token", { exact: true }).fill(token);
    await page.getByRole("button", { name: "Sign in" }).click();
  }

  async function openView(name) {
    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name }).click();
    await page.getByRole("heading", { level: 1, name }).waitFor();
  }

  /** Opens the view of sandboxes, and waits until the table has all rows. */
  async function openSandboxes() {
    await openView("Sandboxes");
    await page.getByText(/^Loaded at/).waitFor();
  }

  /** Exports the table, and returns the rows of the file, its header first. */
  async function exportedRows(name = "sandboxes") {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export CSV" }).click()]);
    assert.match(download.suggestedFilename(), new RegExp(`^${name}-\\d{4}-\\d\\d-\\d\\d\\.csv$`));
    const text = await readFile(await download.path(), "utf8");
    assert.ok(text.startsWith("\uFEFF"));
    return parseCsv(text.slice(1));
  }

  return { ...opened, assertNoErrors, signIn, openView, openSandboxes, exportedRows };
}

/** Parses CSV as RFC 4180 defines it. */
function parseCsv(text) {
  const rows = [];
  let row = [];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|$)/g)) {
    row.push(quoted?.replaceAll('""', '"') ?? plain);
    if (end === ",") continue;
    rows.push(row);
    row = [];
  }
  return rows.filter((fields) => fields.join(""));
}
