// Takes the README's pictures of the dashboard: a real broker, with an invented history of the day before.
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { allocate, openDashboard, release } from "./operator.mjs";

const FOLDER = process.env.SCREENSHOTS;
const MAX_BYTES = 250_000;
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

async function openWithHistory() {
  const opened = await openDashboard();
  const edit = (pattern, change) => opened.page.route(pattern, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: change(await response.json()) });
  });
  await edit("**/admin/samples*", (json) => ({ ...json, samples: samples(Number(process.env.SIMULATOR_ACCOUNTS)) }));
  await edit("**/admin/sandboxes*", (json) => ({ ...json, sandboxes: json.sandboxes.map(atTimeOfClass) }));
  await edit("**/admin/overview", (json) => {
    const allocations = allocatedUntil(now) - allocatedUntil(now - HOUR);
    return { ...json, allocations_last_hour: allocations, lasts_for_seconds: Math.round((json.counts.available / allocations) * HOUR) };
  });
  return opened;
}

async function take(name, { theme, width, height }) {
  const { page, signIn } = await openWithHistory();
  await page.setViewportSize({ width, height: 900 });
  await page.getByLabel("Theme").selectOption(theme);
  await signIn();
  await page.locator("canvas").nth(1).waitFor();
  await page.getByText("dns-security-101").first().waitFor();
  await page.waitForLoadState("networkidle");
  const path = `${FOLDER}/${name}.png`;
  await page.screenshot({ path, fullPage: true, clip: { x: 0, y: 0, width, height } });
  await page.close();
  const { length } = await readFile(path);
  console.log(`${name}: ${length} bytes`);
  if (length > MAX_BYTES) throw new Error(`${path} is too large for a README`);
}

test("the pictures are taken", { timeout: 120_000 }, async () => {
  for (const { lab, students, ago } of running) {
    await Promise.all(Array.from({ length: students }, (_, index) => allocate(`${lab}-${ago}-${index}`, lab)));
  }
  await Promise.all(Array.from({ length: 12 }, async (_, index) => release(await allocate(`guest-${index}`, "ipam-automation"))));
  await take("dashboard-light", { theme: "light", width: 1280, height: 1560 });
  await take("dashboard-dark", { theme: "dark", width: 1280, height: 1560 });
  await take("dashboard-narrow", { theme: "light", width: 390, height: 844 });
});
