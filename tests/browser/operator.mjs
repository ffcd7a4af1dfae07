// An operator at the dashboard, and the API that tells whether what it shows is right.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { base, openPage } from "./browser.mjs";

export const ADMIN = "dev-admin-token";

export async function api(path) {
  const response = await fetch(`${base}/v1${path}`, { headers: { authorization: `Bearer ${ADMIN}` } });
  assert.equal(response.status, 200, path);
  return response.json();
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

/** What a lab's script does. */
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

export const giveBack = ({ caller, id }) => asTrack(`/sandboxes/${encodeURIComponent(id)}/mark-for-deletion`, caller);

/** The dashboard in a page of its own, and what is done there again and again. */
export async function openDashboard() {
  const opened = await openPage();
  const { page } = opened;
  await page.goto(`${base}/dashboard`);

  async function signIn(token = ADMIN) {
    await page.getByLabel("Admin token").fill(token);
    await page.getByRole("button", { name: "Sign in" }).click();
  }

  async function view(name) {
    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name }).click();
    await page.getByRole("heading", { level: 1, name }).waitFor();
  }

  /** Waits until the table has all rows. */
  async function sandboxes() {
    await view("Sandboxes");
    await page.getByText(/^Loaded at/).waitFor();
  }

  /** The rows of the exported file, its head first. */
  async function exported() {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export CSV" }).click()]);
    assert.match(download.suggestedFilename(), /^sandboxes-\d{4}-\d\d-\d\d\.csv$/);
    const text = await readFile(await download.path(), "utf8");
    assert.ok(text.startsWith("\uFEFF"));
    return parseCsv(text.slice(1));
  }

  return { ...opened, signIn, view, sandboxes, exported };
}

/** Reads RFC 4180. */
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
