// The site of the documents, as scripts/build-site makes it, at BROKER_URL.
import assert from "node:assert/strict";
import { test } from "node:test";
import { base, openPage } from "./browser.mjs";

async function open(path) {
  const opened = await openPage();
  await opened.page.goto(`${base}/${path}`);
  await opened.page.waitForLoadState("networkidle");
  return opened;
}

test("the front page leads to every reader's page", async () => {
  const { page, assertNoErrors } = await open("");
  for (const reader of ["lab authors", "operators", "auditors"]) {
    await page.locator("nav").getByText(`For ${reader}`).first().waitFor();
  }
  await page.getByRole("main").getByRole("link", { name: "Where to begin" }).click();
  await page.getByRole("main").getByRole("heading", { level: 1 }).waitFor();
  assertNoErrors();
});

test("the pictures are shown", async () => {
  const { page, assertNoErrors } = await open("");
  const widths = await page.getByRole("main").locator("img").evaluateAll((images) => images.map((image) => image.naturalWidth));
  assert.ok(widths.length > 0 && widths.every((width) => width > 0), String(widths));
  assertNoErrors();
});

test("the search finds a runbook and an endpoint", async () => {
  const { page, assertNoErrors } = await open("");
  await page.keyboard.press("s");
  for (const [words, result] of [["token leak", "Token leak"], ["release sandbox", "Release a sandbox"]]) {
    await page.getByRole("searchbox").fill("");
    await page.getByRole("searchbox").pressSequentially(words);
    await page.locator("#mdbook-searchresults a", { hasText: result }).first().waitFor();
  }
  assertNoErrors();
});

for (const [path, words] of [["docs/architecture.html", "candidate index"], ["docs/table.html", "pending_deletion"]]) {
  test(`the diagram of ${path} is drawn, in a light and a dark theme`, async () => {
    const { page, assertNoErrors } = await open(path);
    await page.locator("figure.diagram svg").getByText(words).first().waitFor();
    let colours = "";
    await page.getByRole("button", { name: "Change theme" }).click();
    for (const theme of ["light", "navy"]) {
      await page.locator(`#mdbook-theme-${theme}`).click();
      await page.waitForFunction((old) => document.querySelector("figure.diagram style").textContent !== old, colours);
      colours = await page.locator("figure.diagram style").first().textContent();
    }
    assert.equal(await page.locator("code.language-mermaid").count(), 0);
    assertNoErrors();
  });
}
