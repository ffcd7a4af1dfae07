// The view "Policy": the document in force and its history. Everybody can check a text; an admin applies it.

import { confirm } from "../lib/dialogs.js";
import { errorLine, fill, h, reasonNode, section, setText } from "../lib/dom.js";
import { exactTime, relative } from "../lib/format.js";
import { askToApply } from "./apply-dialog.js";
import { createCheckResult } from "./check-result.js";
import { createConflictNotice } from "./conflict.js";
import { createDraft } from "./draft.js";
import { createEditor } from "./editor.js";
import { exampleNode } from "./example.js";
import { policyHistory } from "./history.js";
import { createPolicyState } from "./policy-state.js";
import { UNREADABLE, checkDocument } from "./requests.js";

const HINT = "TOML. The broker keeps the values, not the text: comments and the order of fields are lost when it is applied.";

export function policyView(context) {
  const { api, clock, may, overview, drafts, announce } = context;
  const isAdmin = may("admin");
  const policy = createPolicyState(context);
  const draft = createDraft(drafts);

  const meta = h("p", { class: "muted in-force" }, "Loading …");
  const error = errorLine();
  const editor = createEditor({ label: "Text", hint: HINT, onInput });
  const result = createCheckResult(editor);
  const conflict = createConflictNotice({
    onShowChanges: (base) => history.showDifference(base, inForce().version),
    onCompare: check,
    onGoOn: goOn,
  });
  const button = (text, onclick, kind = "") => h("button", { type: "button", class: kind, onclick }, text);
  const discardButton = button("Discard changes …", discard);
  const buttons = h("div", { class: "bar-line" },
    button("Check", check),
    isAdmin ? button("Apply …", apply, "primary") : h("p", { class: "muted" }, "Applying needs the role admin."),
    discardButton);
  const history = policyHistory({ api, policy, onRestore: isAdmin ? restore : null });
  const node = h("div", {},
    section("Document", meta, error, editor.node, conflict.node, buttons, result.node, exampleNode()),
    history.node);

  const inForce = () => policy.state.get().inForce;
  let isBusy = false;

  const unsubscribes = [
    draft.subscribe(showDraft),
    policy.error.subscribe(showError),
    policy.state.subscribe((loaded) => {
      if (!loaded) return;
      draft.follow(loaded.inForce);
      showMeta();
      showError();
      showDraft();
    }),
    overview.subscribe((data) => {
      if (policy.state.get() && data?.policy && policy.isOlderThan(data.policy.version)) policy.load();
    }),
  ];

  function showMeta() {
    const { version, author, at, reason } = inForce();
    if (version === 0) {
      fill(meta, "No policy has been applied yet: every lab has the terms of the broker's environment.");
      return;
    }
    fill(meta, `In force: version ${version} by `, h("bdi", {}, author), ` at ${exactTime(at)} (${relative(at, clock.now())})`,
      reason && [": ", reasonNode(reason)]);
  }

  function showError() {
    const message = policy.error.get();
    setText(error, message ? `The policy could not be loaded: ${message}` : policy.state.get()?.inForce.fault ?? "");
  }

  function showDraft() {
    const isEdited = draft.isEdited();
    editor.setText(draft.get().text);
    discardButton.hidden = !isEdited;
    if (policy.state.get()) conflict.show(inForce(), { base: draft.get().base, isEdited });
    if (isEdited) addEventListener("beforeunload", warnBeforeUnload);
    else removeEventListener("beforeunload", warnBeforeUnload);
  }

  function onInput() {
    draft.edit(editor.text());
    result.markOutdated();
  }

  /** Runs one request at a time, and shows its failure. */
  async function run(request) {
    if (isBusy || !policy.state.get()) return;
    isBusy = true;
    try {
      await request();
    } catch (cause) {
      if (!api.isClosed()) showFailure(cause);
    } finally {
      isBusy = false;
    }
  }

  function showFailure({ faults, message }) {
    if (faults) result.showFaults(faults);
    else result.showProblem(message);
  }

  /**
   * Shows and returns the changes of the text to the version in force, which is loaded if it is another one. They are null
   * if its document cannot be read. Throws an `ApiError` that has the faults of the text, if there are any.
   */
  async function fetchChanges() {
    const { version, changes } = await checkDocument(api, draft.get().text).catch((cause) => {
      if (cause.code !== UNREADABLE) throw cause;
      return { version: inForce().version, changes: null };
    });
    if (policy.isOlderThan(version)) await policy.load();
    result.showChanges(changes, version);
    return { version, changes };
  }

  function check() {
    return run(fetchChanges);
  }

  function apply() {
    return run(async () => {
      const { text, base } = draft.get();
      const { version, changes } = await fetchChanges();
      if (changes?.length === 0) return result.showNote(`Nothing to apply: the document is the same as version ${version}.`);
      if (version !== base) return result.focus(); // The notice about the other version is above.
      const outcome = await askToApply(context, { text, base, changes });
      if (outcome?.applied) await showApplied(outcome.applied, text);
      else if (outcome?.refused) await showRefused(outcome.refused);
    });
  }

  async function showApplied({ version }, text) {
    draft.rebase({ version, text });
    result.showNote(`Version ${version} was applied.`);
    announce(`Policy: version ${version} was applied. It is in force within five seconds on every broker.`);
    await policy.load();
    result.focus();
  }

  /** Loads the version that has come into force, and so shows the notice about it. */
  async function showRefused(refusal) {
    if (refusal.faults) return showFailure(refusal);
    await policy.load();
    result.showProblem(refusal.message);
    result.focus();
  }

  function goOn() {
    draft.rebase(inForce());
    result.focus(); // The button is gone.
    return check();
  }

  async function discard() {
    if (!await confirmLoss("Discard the changes?", "Discard")) return;
    draft.discard(inForce());
    result.clear();
    editor.focus();
  }

  async function restore(version, text) {
    if (draft.isEdited() && !await confirmLoss(`Replace the text by version ${version}?`, "Replace")) return;
    draft.discard(inForce());
    draft.edit(text);
    result.showNote(`The text is that of version ${version}. Apply it to bring it back, as a new version.`);
    editor.focus();
  }

  const confirmLoss = (title, action) => confirm({
    title, action, isDanger: true, body: h("p", {}, "The text in the editor has changes that have not been applied. They will be lost."),
  });

  function warnBeforeUnload(event) {
    event.preventDefault();
  }

  return {
    title: "Policy",
    node,
    show: policy.load,
    hide() {},
    destroy() {
      for (const unsubscribe of unsubscribes) unsubscribe();
      history.destroy();
      removeEventListener("beforeunload", warnBeforeUnload);
    },
  };
}
