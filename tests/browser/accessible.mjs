// Checks the accessibility of a page with axe-core.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { require } from "./browser.mjs";

/** Fails on serious accessibility violations, and if the page itself scrolls sideways. */
export async function assertAccessible(page, place) {
  if (!(await page.evaluate(() => "axe" in globalThis))) {
    await page.evaluate(await readFile(require.resolve("axe-core/axe.min.js"), "utf8"));
  }
  const violations = await page.evaluate(async () => {
    const result = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return result.violations.filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html).join(" ")}`);
  });
  assert.deepEqual(violations, [], place);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, `${place}: the page itself scrolls sideways`);
}
