// Takes the pictures of the README. The broker and its pool are real, but young: the day behind them is made up here.
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { allocate, giveBack, openDashboard } from "./operator.mjs";

const FOLDER = process.env.SCREENSHOTS;
const MOST_BYTES = 250_000;
const HOUR = 3600;
const EVERY = 300;
const LASTS = 4 * HOUR;
/** Classes: how many students, and how many hours ago they came. */
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
const running = CLASSES.filter(({ ago }) => ago * HOUR < LASTS);

/** How many of a class have come, or gone, so many seconds after its beginning: all within a quarter of an hour. */
const share = (seconds) => Math.min(1, Math.max(0, seconds / 900));
const come = ({ students, ago }, at) => Math.round(students * share(at - (now - ago * HOUR)));
const gone = ({ students, ago }, at) => Math.round(students * share(at - (now - ago * HOUR + LASTS - 900)));
const sum = (count, at) => CLASSES.reduce((total, one) => total + count(one, at), 0);

function samples(pool) {
  const first = Math.ceil(now / EVERY) * EVERY - 24 * HOUR;
  return Array.from({ length: (24 * HOUR) / EVERY }, (_, nth) => {
    const at = first + nth * EVERY;
    const allocated = sum(come, at) - sum(gone, at);
    const releases = sum(gone, at) - sum(gone, at - EVERY);
    return {
      at, allocated, releases, allocations: sum(come, at) - sum(come, at - EVERY),
      pending_deletion: releases, available: pool - allocated - releases, stale: 0, deletion_failed: 0,
    };
  });
}

/** The classes came one after the other, not all in the second in which this file asked for them. */
function asTheyCame(row) {
  const ago = running.find((one) => row.allocated_to_track?.startsWith(`${one.lab}-${one.ago}-`))?.ago;
  if (ago === undefined) return row;
  const allocatedAt = Math.round(now - ago * HOUR + (Number(row.allocated_to_track.split("-").at(-1)) * 900) / 150);
  return { ...row, allocated_at: allocatedAt, updated_at: allocatedAt, expires_at: allocatedAt + LASTS };
}

async function openWithPast() {
  const opened = await openDashboard();
  const edit = (pattern, change) => opened.page.route(pattern, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: change(await response.json()) });
  });
  await edit("**/admin/samples*", (json) => ({ ...json, samples: samples(Number(process.env.SIMULATOR_ACCOUNTS)) }));
  await edit("**/admin/sandboxes*", (json) => ({ ...json, sandboxes: json.sandboxes.map(asTheyCame) }));
  await edit("**/admin/overview", (json) => {
    const allocations = sum(come, now) - sum(come, now - HOUR);
    return { ...json, allocations_last_hour: allocations, lasts_for_seconds: Math.round((json.counts.available / allocations) * HOUR) };
  });
  return opened;
}

async function take(name, { theme, width, height }) {
  const { page, signIn } = await openWithPast();
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
  if (length > MOST_BYTES) throw new Error(`${path} is too large for a README`);
}

test("pictures", { timeout: 120_000 }, async () => {
  for (const { lab, students, ago } of running) {
    await Promise.all(Array.from({ length: students }, (_, nth) => allocate(`${lab}-${ago}-${nth}`, lab)));
  }
  await Promise.all(Array.from({ length: 12 }, async (_, nth) => giveBack(await allocate(`guest-${nth}`, "ipam-automation"))));
  await take("dashboard-light", { theme: "light", width: 1280, height: 1560 });
  await take("dashboard-dark", { theme: "dark", width: 1280, height: 1560 });
  await take("dashboard-narrow", { theme: "light", width: 390, height: 844 });
});
