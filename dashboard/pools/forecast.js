// The forecast: what the pools will have available at a time that the operator chooses, and what it assumes.

import { errorLine, fill, h, newId, scrollRegion, section, setText, table } from "../lib/dom.js";
import { exactTime, number, plural, relative } from "../lib/format.js";
import { createField } from "../lib/form.js";
import { fromLocalInput, toLocalInput } from "../lib/local-time.js";
import { shortfallText, sortForecasts, targetText } from "./forecast-text.js";
import { totalText } from "./pool-state.js";

const DAY = 86_400;
const HOUR = 3600;
const LONGEST_DAYS = 90; // As in the broker.
const COLUMNS = [
  "Pool", "Available then", "Target", "In time", "Available now", "On their way", "To be created", "Not usable yet", "In all", "Assumptions",
];
const MAX_ROWS = 200;

export function forecastForm({ api, clock }) {
  const input = h("input", { type: "datetime-local", required: true });
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const field = createField({ label: "What will be available at", hint: `In your time zone, ${zone}. Up to ${LONGEST_DAYS} days ahead.`, input });
  const button = h("button", { class: "primary" }, "Show");
  const error = errorLine();
  const heading = h("h3", { tabindex: "-1" });
  const result = h("div", { class: "forecast", hidden: true });
  const form = h("form", { class: "forecast-form", novalidate: true, onsubmit: send }, field.node, button);
  const node = section("Forecast", form, error, result);
  let asked = 0; // Only the answer to the last request is shown.

  /** Fills in this hour tomorrow, until the operator chooses another time. */
  const offer = () => input.value ||= toLocalInput(Math.ceil((clock.now() + DAY) / HOUR) * HOUR);

  function faultOf(at) {
    const now = clock.now();
    if (at === null) return "Enter a date and a time.";
    if (at < now) return "Enter a time in the future.";
    return at > now + LONGEST_DAYS * DAY ? `Enter a time within ${LONGEST_DAYS} days.` : "";
  }

  async function send(event) {
    event.preventDefault();
    offer();
    const at = fromLocalInput(input.value);
    const fault = faultOf(at);
    field.showFault(fault);
    if (fault) return input.focus();
    const turn = ++asked;
    button.setAttribute("aria-disabled", "true");
    try {
      const forecast = await api.get("/admin/forecast", { at });
      if (turn === asked) show(forecast, at);
    } catch ({ message }) {
      if (turn === asked && !api.isClosed()) setText(error, `The forecast could not be loaded: ${message}`);
    } finally {
      if (turn === asked) button.removeAttribute("aria-disabled");
    }
  }

  function show({ pools, assumptions }, at) {
    setText(error, "");
    setText(heading, `At ${exactTime(at)} (${relative(at, clock.now())})`);
    const sorted = sortForecasts(pools);
    const left = sorted.length - MAX_ROWS;
    const id = newId("assumptions");
    fill(result, heading, forecastTable(sorted.slice(0, MAX_ROWS)),
      left > 0 && h("p", { class: "muted" }, `${plural(left, "more pool")} will reach their target, or lack fewer sandboxes.`),
      h("h4", { id }, "This assumes"),
      h("ul", { "aria-labelledby": id }, assumptions.map((text) => h("li", {}, h("bdi", {}, text)))));
    result.hidden = false;
    heading.focus();
  }

  return { node, offer };
}

function forecastTable(forecasts) {
  const node = table("Forecast", COLUMNS, forecasts.map((pool) => [
    h("bdi", {}, pool.name_prefix),
    number(pool.available),
    targetText(pool),
    h("bdi", {}, shortfallText(pool)),
    ...[pool.available_now, pool.arriving, pool.created, pool.warming].map(number),
    totalText(pool),
    h("bdi", {}, pool.assumptions.join(" ")),
  ]));
  node.className = "wrapped pool-figures";
  return scrollRegion("Forecast", node);
}
