// Tests the page of the policy: an admin edits, checks and applies it, two admins at once, the way back, and a viewer.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { assertAccessible } from "./accessible.mjs";
import { ADMIN, api, applyPolicy, createToken, openDashboard } from "./operator.mjs";

const timeout = 60_000;
// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";
const LAB = "policy-page-101";
let opened = [];
let ada;

/** Applies a document as the other admin does. */
const applyByAda = (text) => applyPolicy(text, ada.secret);

const lab = (fields, id = LAB) => `[[lab]]\nid = "${id}"\n${fields}\n`;

before(async () => {
  ada = await createToken(`ada-${Date.now()}`, "admin");
});

after(() => applyByAda("\n"));

afterEach(async () => {
  const closing = opened;
  opened = [];
  for (const { page } of closing) await page.close();
  for (const { assertNoErrors } of closing) assertNoErrors();
});

/** Opens the page of the policy, signed in with a token, and returns its parts. */
async function openPolicy(token = ADMIN, prepare = async () => {}) {
  const dashboard = await openDashboard();
  opened.push(dashboard);
  const { page, signIn, openView } = dashboard;
  await prepare(page);
  await signIn(token);
  await openView("Policy");
  await page.getByText(/^(In force: version \d+ by|No policy has been applied yet: )/).waitFor();
  return {
    ...dashboard,
    text: page.getByLabel("Text", { exact: true }),
    result: page.locator(".check-result"),
    press: (name) => page.getByRole("button", { name, exact: true }).click(),
    dialog: page.getByRole("dialog"),
    faults: page.getByRole("region", { name: "Faults" }).getByRole("row"),
    version: (number) => page.getByRole("region", { name: "Versions" }).getByRole("row").filter({ has: page.getByRole("rowheader", { name: new RegExp(`^${number}\\b`) }) }),
  };
}

const hasFocus = (locator) => locator.evaluate((element) => element === document.activeElement);
const selected = (locator) => locator.evaluate((area) => area.value.slice(area.selectionStart, area.selectionEnd));

test("an admin mends the faults of a document, and applies it", { timeout }, async () => {
  const first = await applyByAda(lab("duration_minutes = 90"));
  const { page, text, result, press, dialog, faults, version, expectErrors } = await openPolicy();
  await page.getByText(new RegExp(`^In force: version ${first} by ${ada.token.name} at `)).waitFor();
  assert.match(await text.inputValue(), /duration_minutes = 90/);

  await text.fill(`${lab('duration_minutes = "long"')}${lab("max_held = -1\nmax_hold = 3", "")}${"\n".repeat(60)}[defaults\n`);
  await press("Check");
  await result.getByText("1 fault.").waitFor();
  await faults.getByRole("button", { name: /^Line \d+$/ }).click();
  assert.ok(await hasFocus(text));
  assert.match(await selected(text), /efaults$|^$/, "the rest of the line from the fault on");

  await text.fill(`${lab('duration_minutes = "long"', HTML.replaceAll("'", ""))}\n${lab("max_held = -1\nmax_hold = 3")}`);
  await press("Apply …");
  await result.getByText("3 faults. Nothing was changed.").waitFor();
  assert.equal(await dialog.count(), 0);
  const row = faults.filter({ hasText: "lab[0].duration_minutes" });
  assert.deepEqual((await row.getByRole("cell").allInnerTexts()).slice(0, 2), ["lab[0].duration_minutes", '"long"']);
  await row.getByText(/a whole number from 1 to \d+/).waitFor();
  await row.getByRole("button").click();
  assert.equal(await selected(text), 'duration_minutes = "long"');

  await text.fill(`${lab("duration_minutes = 120", HTML.replaceAll("'", ""))}\n${lab("duration_minutes = 100\nmax_held = 2")}`);
  await result.getByText("The text has changed since.").waitFor();
  await press("Apply …");
  await dialog.getByRole("heading", { name: "Apply the policy?" }).waitFor();
  const change = dialog.getByRole("row").filter({ hasText: `lab[${LAB}].duration_minutes` });
  assert.deepEqual(await change.getByRole("cell").allInnerTexts(), ["90", "100"]);
  await assertAccessible(page, "confirmation");
  await dialog.getByLabel("Reason (optional)").fill(HTML);
  await dialog.getByRole("button", { name: "Apply" }).click();
  await result.getByText(`Version ${first + 1} was applied.`).waitFor();
  await version(first + 1).getByText("in force").waitFor();
  assert.equal(await version(first + 1).locator(".reason").innerText(), HTML);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  const { policy } = await api("/admin/policy");
  assert.equal(policy.lab.find(({ id }) => id === LAB).max_held, 2);

  await press("Apply …");
  await result.getByText(`Nothing to apply: the document is the same as version ${first + 1}.`).waitFor();
  expectErrors(/status of 400/);
});

test("the text of an admin who comes second is kept, and goes on from the version of the first", { timeout }, async () => {
  const first = await applyByAda(lab("duration_minutes = 60"));
  const { page, text, result, press, dialog, version, expectErrors } = await openPolicy();
  const mine = lab("duration_minutes = 60\nmax_held = 7");
  await text.fill(mine);
  await press("Apply …");
  await dialog.getByRole("button", { name: "Apply" }).waitFor();
  const second = await applyByAda(lab("duration_minutes = 75"));
  await dialog.getByRole("button", { name: "Apply" }).click();
  const notice = page.getByText("The policy has changed:");
  await notice.waitFor();
  await page.getByText(new RegExp(`version ${second} by ${ada.token.name} at .* is in force\\. Your text is a change of version ${first}`)).waitFor();
  assert.equal(await text.inputValue(), mine);
  assert.equal((await api("/admin/policy")).version, second);
  await page.setViewportSize({ width: 360, height: 800 });
  await assertAccessible(page, "conflict, 360 px");

  await press(`Changes since version ${first}`);
  await dialog.getByRole("heading", { name: `From version ${first} to version ${second}` }).waitFor();
  assert.deepEqual(await dialog.getByRole("cell").allInnerTexts(), ["60", "75"]);
  await page.keyboard.press("Escape");
  await press(`Compare with version ${second}`);
  await result.getByText(`No faults, and 2 changes to version ${second}.`).waitFor();
  await press("Apply …");
  await result.getByText(`No faults, and 2 changes to version ${second}.`).waitFor();
  assert.equal(await dialog.count(), 0, "a text that would undo the other version is not applied by accident");

  await press(`Go on from version ${second}`);
  await notice.waitFor({ state: "detached" });
  await text.fill(lab("duration_minutes = 75\nmax_held = 7"));
  await press("Apply …");
  await dialog.getByRole("button", { name: "Apply" }).click();
  await version(second + 1).getByText("in force").waitFor();
  expectErrors(/status of 412/);
});

test("an admin brings an earlier version back with the keyboard only", { timeout }, async () => {
  const good = await applyByAda(lab("duration_minutes = 30"));
  const bad = await applyByAda(lab("duration_minutes = 1"));
  const { page, text, dialog, version } = await openPolicy();
  /** Presses Tab until the element has the focus. */
  async function tabTo(locator) {
    await locator.waitFor();
    for (let presses = 0; presses < 60; presses += 1) {
      if (await hasFocus(locator)) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`${locator} cannot be reached with Tab`);
  }

  await tabTo(page.getByRole("button", { name: "Difference" }));
  await page.keyboard.press("Enter");
  await dialog.getByRole("heading", { name: `From version ${good} to version ${bad}` }).waitFor();
  assert.deepEqual(await dialog.getByRole("cell").allInnerTexts(), ["30", "1"]);
  await page.keyboard.press("Escape");
  await tabTo(version(good).getByRole("button", { name: "Restore" }));
  await page.keyboard.press("Enter");
  await page.getByText(`The text is that of version ${good}.`).waitFor();
  assert.ok(await hasFocus(text));
  assert.match(await text.inputValue(), /duration_minutes = 30/);
  await tabTo(page.getByRole("button", { name: "Apply …" }));
  await page.keyboard.press("Enter");
  await dialog.getByText(`It has 1 change to version ${bad}.`).waitFor();
  assert.ok(await hasFocus(dialog.getByLabel("Reason (optional)")));
  await page.keyboard.type("1 was a slip");
  await page.keyboard.press("Enter");
  await version(bad + 1).getByText("1 was a slip").waitFor();
  assert.equal((await api("/admin/policy")).policy.lab[0].duration_minutes, 30);
});

test("a text that is not applied is not lost by accident", { timeout }, async () => {
  await applyByAda(lab("duration_minutes = 45"));
  const { page, text, press, dialog, openView } = await openPolicy();
  const mine = lab("duration_minutes = 46");
  await text.fill(mine);
  await openView("Jobs");
  await openView("Policy");
  assert.equal(await text.inputValue(), mine);
  await page.getByRole("button", { name: "Sign out" }).click();
  await dialog.getByText("They will be lost.").waitFor();
  await page.keyboard.press("Enter"); // The focus is on "Cancel".
  await dialog.waitFor({ state: "detached" });
  assert.equal(await text.inputValue(), mine);
  const [warning] = await Promise.all([page.waitForEvent("dialog"), page.close({ runBeforeUnload: true })]);
  assert.equal(warning.type(), "beforeunload");
  await warning.dismiss();

  await press("Discard changes …");
  await dialog.getByRole("button", { name: "Discard" }).click();
  await page.waitForFunction(() => document.querySelector("textarea").value.includes("= 45"));
  assert.ok(!await page.getByRole("button", { name: "Discard changes …" }).isVisible());
});

test("a viewer sees every version and checks a text, but cannot apply it", { timeout }, async () => {
  const first = await applyByAda(lab("duration_minutes = 50"));
  const viewer = await createToken(`viewer-${Date.now()}`, "viewer");
  const { page, text, result, press, dialog, version } = await openPolicy(viewer.secret);
  await page.getByText("Applying needs the role admin.").waitFor();
  for (const name of ["Apply", "Restore"]) assert.equal(await page.getByRole("button", { name }).count(), 0);
  await version(first).getByRole("button", { name: "Show" }).click();
  await dialog.getByText("duration_minutes = 50").waitFor();
  await page.keyboard.press("Escape");
  await text.fill(lab("duration_minutes = 51"));
  await press("Check");
  await result.getByText(`No faults, and 1 change to version ${first}.`).waitFor();
  assert.deepEqual(await result.getByRole("cell").allInnerTexts(), ["50", "51"]);
  assert.equal((await api("/admin/policy")).version, first);
});

test("a version that another admin applies is shown once the overview names it", { timeout }, async () => {
  const { page } = await openPolicy();
  const version = await applyByAda(lab("duration_minutes = 55"));
  await page.route("**/admin/overview", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    await route.fulfill({ response, json: { ...json, policy: { ...json.policy, version } } });
  });
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange"))); // Polls now.
  await page.getByText(new RegExp(`^In force: version ${version} by `)).waitFor();
  await page.unrouteAll({ behavior: "wait" });
  assert.match(await page.getByLabel("Text", { exact: true }).inputValue(), /= 55/);
  assert.ok(!await page.getByText("The policy has changed:").isVisible());
});

test("a document in force that cannot be read is replaced by an earlier one", { timeout }, async () => {
  const good = await applyByAda(lab("duration_minutes = 65"));
  const broken = await applyByAda(lab("duration_minutes = 66"));
  const error = { code: "POLICY_UNREADABLE", message: `The stored policy cannot be read: ${HTML}.` };
  const refuse = (route) => route.fulfill({ status: 409, json: { error } });
  const { page, press, dialog, version, expectErrors, result } = await openPolicy(ADMIN, async (page) => {
    await page.route(`**/admin/policy?version=${broken}`, refuse);
    await page.route("**/admin/policy/check", refuse);
  });
  await page.getByText(error.message).waitFor();
  await version(good).getByRole("button", { name: "Restore" }).click();
  await press("Apply …");
  await dialog.getByText(`It replaces version ${broken}, which cannot be read.`).waitFor();
  await dialog.getByRole("button", { name: "Apply" }).click();
  await result.getByText(`Version ${broken + 1} was applied.`).waitFor();
  await version(broken + 1).getByText("in force").waitFor();
  assert.equal((await api("/admin/policy")).policy.lab[0].duration_minutes, 65);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  expectErrors(/status of 409/);
});
