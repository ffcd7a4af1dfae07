// What a signed-in operator sees: the views, and what they share. It is made anew for each sign-in, and all that it
// showed goes with it.

import { createApi } from "../lib/api.js";
import { createClock } from "../lib/clock.js";
import { closeDialogs } from "../lib/dialogs.js";
import { fill, h } from "../lib/dom.js";
import { freshnessLine } from "./freshness.js";
import { jobsView } from "../jobs/jobs.js";
import { niosxaasView } from "../niosxaas/niosxaas.js";
import { observable } from "../lib/observable.js";
import { overviewView } from "../overview/overview.js";
import { createPoll } from "../lib/poll.js";
import { startRouter } from "./router.js";
import { createRuns } from "../jobs/runs.js";
import { countsText, withTimes } from "../jobs/run-text.js";
import { sandboxesView } from "../sandboxes/sandboxes.js";

const OVERVIEW_MS = 10_000;
const ANNOUNCED_MS = 12_000;

/** `page` has the elements of index.html. `onRefused(error)` hears of a token that is no longer good. */
export function startConsole({ base, token, first = null, page, onRefused }) {
  const api = createApi({ base, token, onRefused });
  const clock = createClock();
  const overview = observable(null);
  const fault = observable(null);
  const { announce, silence } = announcer(page.announcer);
  const runs = createRuns({ api, onFinished });
  const context = { api, clock, overview, runs, announce };

  function take(data) {
    clock.set(data.at);
    fault.set(null);
    overview.set(data);
    runs.notice(data.jobs);
    showWarnings(page.alerts, data.warnings);
  }

  function onFinished(run, isOurs) {
    if (isOurs) {
      const counts = countsText(run);
      announce(`${run.job}: ${run.state}${counts && `, ${counts}`}.`, { isFault: run.state !== "succeeded" });
    }
    poll.refresh();
    router.current().refresh?.();
  }

  const poll = createPoll({
    run: async () => take(await api.get("/admin/overview")),
    everyMs: OVERVIEW_MS,
    onFailure: (error) => fault.set(error.message),
  });

  if (first) take(first);
  const stopFreshness = freshnessLine({ element: page.freshness, overview, clock, fault });
  const views = {
    overview: overviewView(context),
    sandboxes: sandboxesView(context),
    jobs: jobsView(context),
    niosxaas: niosxaasView(context),
  };
  const router = startRouter({ nav: page.nav, title: page.title, slot: page.view, views });
  poll.start();

  return function stop() {
    api.close();
    poll.stop();
    router.stop();
    runs.destroy();
    for (const view of Object.values(views)) view.destroy();
    stopFreshness();
    silence();
    showWarnings(page.alerts, []);
    closeDialogs();
  };
}

/** Written anew only when it differs: what has role=alert is read aloud each time. */
function showWarnings(element, warnings) {
  const texts = warnings.map(({ message }) => withTimes(message));
  const key = JSON.stringify(texts);
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  fill(element, texts.length > 0 && h("ul", { role: "list" }, texts.map((text) => h("li", {}, text))));
}

/** Says how something went, and takes it away after a while. */
function announcer(element) {
  let timer = null;
  function silence() {
    clearTimeout(timer);
    fill(element);
    element.className = "announcer";
  }
  return {
    announce(text, { isFault = false } = {}) {
      clearTimeout(timer);
      fill(element, text);
      element.className = `announcer is-shown ${isFault ? "is-fault" : ""}`;
      timer = setTimeout(silence, ANNOUNCED_MS);
    },
    silence,
  };
}
