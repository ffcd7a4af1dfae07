// The view "Pauses": each activity with its pause, and for operators buttons to set, change and end pauses.

import { errorLine, fill, h, reasonNode, section, setText } from "../lib/dom.js";
import { ACTIVITIES, pauseText } from "./activities.js";
import { askToPause, askToResume } from "./pause-dialog.js";

export function pausesView(context) {
  const { pauses } = context;
  const error = errorLine();
  const cards = ACTIVITIES.map((activity) => activityCard(activity, context));
  const node = section("Activities",
    h("p", { class: "muted" }, "A pause is in force on every broker and in every job within five seconds, and shown on every page."),
    error,
    h("div", { class: "actions" }, cards.map((card) => card.node)));

  const unsubscribes = [
    pauses.error.subscribe((message) => setText(error, message ? `The pauses could not be loaded: ${message}` : "")),
    pauses.list.subscribe((list) => {
      if (list) for (const card of cards) card.update(list.find(({ activity }) => activity === card.key) ?? null);
    }),
  ];

  return {
    title: "Pauses",
    node,
    show: pauses.refresh,
    hide() {},
    destroy() {
      for (const unsubscribe of unsubscribes) unsubscribe();
    },
  };
}

function activityCard(activity, context) {
  const { api, may, announce, pauses } = context;
  const { key, name, effect } = activity;
  let current = null;
  const pill = h("span", { class: "pill" }, "loading …");
  const details = h("p");
  // One button for both, so that it keeps the focus.
  const toggle = h("button", { type: "button", disabled: true, onclick: () => (current ? resume() : pause()) });
  const change = h("button", { type: "button", onclick: pause }, "Change …", h("span", { class: "hidden" }, ` the pause of ${name.toLowerCase()}`));
  const node = h("div", { class: "action" },
    h("h3", {}, `${name} `, pill),
    h("div", {}, details, h("p", { class: "muted" }, effect)),
    may("operator") && h("div", { class: "bar-line" }, toggle, change));

  async function pause() {
    const isChange = current !== null;
    if (await askToPause(context, activity, current)) report(isChange ? "the pause was changed." : "paused.");
  }

  async function resume() {
    if (await askToResume(context, activity, current)) report("the pause was ended.");
  }

  function report(text) {
    if (api.isClosed()) return;
    announce(`${name}: ${text}`);
    pauses.refresh();
  }

  function update(newer) {
    current = newer;
    pill.className = `pill ${newer ? "paused" : "succeeded"}`;
    setText(pill, newer ? "paused" : "not paused");
    fill(details, newer && [h("bdi", {}, pauseText(newer)), ": ", reasonNode(newer.reason)]);
    details.hidden = newer === null;
    setText(toggle, `${newer ? "End the pause of" : "Pause"} ${name.toLowerCase()} …`);
    toggle.disabled = false;
    change.hidden = newer === null;
  }

  return { key, node, update };
}
