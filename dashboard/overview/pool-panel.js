// The state of the pool: sandboxes by status, how long the available ones last, and the circuit breakers. Each tile leads
// to its sandboxes.

import { fill, h, setText } from "../lib/dom.js";
import { STATUSES, duration, number, plural, statusName } from "../lib/format.js";
import { addressOf } from "../sandboxes/address.js";

export function poolPanel() {
  const values = Object.fromEntries([...STATUSES, "unreadable", "total"].map((key) => [key, h("dd", {}, "–")]));
  const tiles = Object.entries(values).map(([key, value]) =>
    h("div", { class: `tile ${key}` }, h("dt", {}, h("a", { href: addressOfTile(key) }, statusName(key))), value));
  const outlook = h("p", { class: "lead" });
  const breakers = h("p", { class: "breakers" });

  function update(data) {
    const { counts } = data;
    for (const [key, value] of Object.entries(values)) setText(value, number(counts[key] ?? 0));
    values.unreadable.parentElement.hidden = !counts.unreadable; // Rare, so the tile is shown only above 0.
    values.available.parentElement.classList.toggle("is-low", isLow(data));
    setText(outlook, outlookText(data));
    fill(breakers, "Circuit breakers:", data.breakers.map(({ name, state }) =>
      h("span", { class: `pill ${state}` }, `${name} ${state.replace("_", " ")}`)));
  }

  return { node: [h("dl", { class: "tiles" }, tiles), outlook, breakers], update };
}

/** Whether the broker warns of a low pool: sandboxes in provisioning count as available while they are on time. */
const isLow = ({ warnings }) => warnings.some(({ code }) => code === "pool_low" || code === "pool_empty");

/** Unreadable items are listed above the table, whichever its filter. */
const addressOfTile = (key) => addressOf({ status: STATUSES.includes(key) ? key : "" });

function outlookText({ counts, lasts_for_seconds: seconds, allocations_last_hour: allocations, releases_last_hour: releases }) {
  const lastHour = `In the last hour: ${plural(allocations, "allocation")} and ${plural(releases, "release")}.`;
  if (counts.available === 0) return `The pool is empty. ${lastHour}`;
  if (seconds === null) return "No allocations in the last hour, so the available pool does not shrink.";
  return `At the rate of the last hour, the available pool lasts for ${duration(seconds)}. ${lastHour}`;
}
