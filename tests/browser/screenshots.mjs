// Takes the documents' pictures of the dashboard: a real broker, with an invented history of the day before.
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { allocate, allSandboxes, applyPolicy, createToken, openDashboard, release, send } from "./operator.mjs";

const FOLDER = process.env.SCREENSHOTS;
const MAX_BYTES = 250_000;
const MARGIN = 16;
const HOUR = 3600;
const SAMPLE_SECONDS = 300;
const DURATION = 4 * HOUR;
/** The classes of the day: the lab, the number of students, and how many hours ago they began. */
const CLASSES = [
  { lab: "dns-security-101", students: 90, ago: 20 },
  { lab: "cloud-ddi-foundations", students: 260, ago: 16.5 },
  { lab: "threat-defense-201", students: 140, ago: 11 },
  { lab: "cloud-ddi-foundations", students: 120, ago: 3.2 },
  { lab: "dns-security-101", students: 85, ago: 2.6 },
  { lab: "ipam-automation", students: 40, ago: 1.4 },
  { lab: "threat-defense-201", students: 150, ago: 0.4 },
];
const now = Math.floor(Date.now() / 1000);
const running = CLASSES.filter(({ ago }) => ago * HOUR < DURATION);

/** The share of a class that has allocated, or released, after a number of seconds: all do so within 15 minutes. */
const share = (seconds) => Math.min(1, Math.max(0, seconds / 900));
const beginOf = ({ ago }) => now - ago * HOUR;
const total = (countOf) => CLASSES.reduce((sum, one) => sum + countOf(one), 0);
/** The allocations, and the releases, of all classes up to a time. */
const allocatedUntil = (at) => total((one) => Math.round(one.students * share(at - beginOf(one))));
const releasedUntil = (at) => total((one) => Math.round(one.students * share(at - (beginOf(one) + DURATION - 900))));

function samples(poolSize) {
  const first = Math.ceil(now / SAMPLE_SECONDS) * SAMPLE_SECONDS - 24 * HOUR;
  return Array.from({ length: (24 * HOUR) / SAMPLE_SECONDS }, (_, index) => {
    const at = first + index * SAMPLE_SECONDS;
    const allocated = allocatedUntil(at) - releasedUntil(at);
    const allocations = allocatedUntil(at) - allocatedUntil(at - SAMPLE_SECONDS);
    const releases = releasedUntil(at) - releasedUntil(at - SAMPLE_SECONDS);
    return {
      at, allocated, allocations, releases,
      pending_deletion: releases, provisioning: 0, available: poolSize - allocated - releases, stale: 0, deletion_failed: 0, quarantined: 0,
    };
  });
}

/** Moves an allocation to the time of its class: this file makes all of them within seconds. */
function atTimeOfClass(row) {
  const ago = running.find((one) => row.allocated_to_track?.startsWith(`${one.lab}-${one.ago}-`))?.ago;
  if (ago === undefined) return row;
  const allocatedAt = Math.round(now - ago * HOUR + (Number(row.allocated_to_track.split("-").at(-1)) * 900) / 150);
  return { ...row, allocated_at: allocatedAt, updated_at: allocatedAt, expires_at: allocatedAt + DURATION };
}

/** Three plays of a class that usually lasts two hours. */
async function leaks(json) {
  const rows = (await allSandboxes()).filter(({ track_name: lab }) => lab === "cloud-ddi-foundations").slice(0, 3).map(atTimeOfClass);
  const usual = { usual_sec: 2 * HOUR };
  return {
    ...json,
    leaks: rows.map((row) => ({
      ...usual, sandbox_id: row.sandbox_id, name: row.name, caller: row.allocated_to_track, lab: row.track_name, allocated_at: row.allocated_at,
      extended_at: null, expires_at: row.expires_at, held_sec: now - row.allocated_at, basis: "history",
    })),
    labs: [{ ...usual, lab: "cloud-ddi-foundations", durations: 100, suspected_after_sec: 3 * HOUR, updated_at: now - 300 }],
  };
}

async function openWithHistory({ hasLeaks = false } = {}) {
  const opened = await openDashboard();
  const edit = (pattern, change) => opened.page.route(pattern, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: await change(await response.json()) });
  });
  if (hasLeaks) await edit("**/admin/leaks*", leaks);
  await edit("**/admin/samples*", (json) => ({ ...json, samples: samples(Number(process.env.SIMULATOR_ACCOUNTS)) }));
  await edit("**/admin/sandboxes*", (json) => ({ ...json, sandboxes: json.sandboxes.map(atTimeOfClass) }));
  await edit("**/admin/overview", (json) => {
    const allocations = allocatedUntil(now) - allocatedUntil(now - HOUR);
    return { ...json, allocations_last_hour: allocations, lasts_for_seconds: Math.round((json.counts.available / allocations) * HOUR) };
  });
  return opened;
}

const POLICY = `[defaults]
duration_minutes = 240
max_duration_minutes = 480

[[lab]]
id = "cloud-ddi-foundations"
max_held = 300

[[lab]]
id = "threat-defense-201"
duration_minutes = 180
max_held = 200
replaced = "quarantine"

[[pool]]
name_prefix = "cloud-"
target_available = 60
max_total = 240

[pool.create]
description = "Hands-on labs"
admin_user = { email = "labs@example.com", name = "Labs" }

[[pool]]
name_prefix = "demo-"
target_available = 80
max_total = 200

[[pool]]
name_prefix = "lab-"
target_available = 120
max_total = 180

[pool.create]
description = "Hands-on labs"
admin_user = { email = "labs@example.com", name = "Labs" }
`;

/** An afternoon of two operators, with requests that are refused. */
async function operate(held) {
  await applyPolicy(POLICY);
  const [anna, ben] = await Promise.all(["anna", "ben"].map(async (name) => (await createToken(name, "operator")).secret));
  const { json } = await send("GET", "/admin/sandboxes?status=available&limit=3");
  const [first, second, third] = json.sandboxes.map((row) => row.sandbox_id);
  const actions = [
    [anna, "PUT", "/admin/pauses/deletions", { reason: "CSP is being repaired" }],
    [anna, "POST", `/admin/sandboxes/${first}/quarantine`, { reason: "DNS does not resolve" }],
    [ben, "POST", `/admin/sandboxes/${second}/quarantine`, { reason: "reported by a student" }],
    [ben, "POST", "/admin/tokens", { name: "guest", role: "viewer" }],
    [anna, "POST", `/admin/sandboxes/${held[0].id}/extend`, { minutes: 400, reason: "the class runs late" }],
    [anna, "DELETE", "/admin/pauses/deletions"],
    [ben, "POST", "/admin/sync"],
    [ben, "POST", `/admin/sandboxes/${held[1].id}/release`, { reason: "the student has left" }],
    [anna, "POST", `/admin/sandboxes/${second}/restore`, { reason: "repaired" }],
    [ben, "POST", `/admin/sandboxes/${third}/delete`, { reason: "the account is damaged" }],
    [ben, "POST", `/admin/sandboxes/${held[1].id}/extend`, { minutes: 60, reason: "the class runs late" }],
  ];
  for (const [token, method, path, body] of actions) await send(method, path, { token, body });
}

/** Takes a picture of a page from its top, or from `from`, down to the end of the last of the elements that `until` finds. */
async function take(name, { theme, width = 1280, view = "Overview", hasLeaks, isReady, from, until }) {
  const { page, signIn, openView } = await openWithHistory({ hasLeaks });
  await page.setViewportSize({ width, height: 900 });
  await page.getByLabel("Theme").selectOption(theme);
  await signIn();
  if (view !== "Overview") await openView(view);
  await isReady(page);
  await page.waitForLoadState("networkidle");
  const top = from ? Math.floor((await from(page).boundingBox()).y) - MARGIN : 0;
  const last = await until(page).last().boundingBox();
  const clip = { x: 0, y: top, width, height: Math.ceil(last.y + last.height) + MARGIN - top };
  const path = `${FOLDER}/${name}.png`;
  await page.screenshot({ path, fullPage: true, clip });
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.close();
  const { length } = await readFile(path);
  console.log(`${name}: ${length} bytes`);
  if (length > MAX_BYTES) throw new Error(`${path} is too large for a document`);
}

async function takeInBothThemes(name, options) {
  for (const theme of ["light", "dark"]) await take(`${name}-${theme}`, { theme, ...options });
}

test("the pictures are taken", { timeout: 300_000 }, async () => {
  const held = [];
  for (const { lab, students, ago } of running) {
    held.push(...await Promise.all(Array.from({ length: students }, (_, index) => allocate(`${lab}-${ago}-${index}`, lab))));
  }
  await Promise.all(Array.from({ length: 12 }, async (_, index) => release(await allocate(`guest-${index}`, "ipam-automation"))));
  const isReady = async (page) => {
    await page.locator("canvas").nth(1).waitFor();
    await page.getByText("dns-security-101").first().waitFor();
  };
  const leakCard = (page) => page.locator("section", { hasText: "Play likely over" });
  await takeInBothThemes("leaks", {
    hasLeaks: true, width: 1440, isReady: (page) => page.getByText("3 sandboxes of 1 lab").waitFor(), from: leakCard, until: leakCard,
  });
  await takeInBothThemes("dashboard", { isReady, until: (page) => page.locator("canvas") });
  await take("dashboard-narrow", { theme: "light", width: 390, isReady, until: (page) => page.getByText("Circuit breakers") });

  await operate(held);
  await takeInBothThemes("audit", {
    view: "Audit", width: 1440, isReady: (page) => page.getByText("the student has left").first().waitFor(),
    until: (page) => page.locator("tbody tr:nth-child(5)"),
  });
  const poolOfLabs = (page) => page.getByRole("article", { name: "lab-" });
  await takeInBothThemes("pools", { view: "Pools", isReady: (page) => poolOfLabs(page).waitFor(), until: poolOfLabs });
});
