// The signed-in part of the page: creates the views and the state that they share, and removes both at sign-out.

import { auditView } from "../audit/audit.js";
import { createApi } from "../lib/api.js";
import { createClock } from "../lib/clock.js";
import { closeDialogs } from "../lib/dialogs.js";
import { observable } from "../lib/observable.js";
import { createPoll } from "../lib/poll.js";
import { jobsView } from "../jobs/jobs.js";
import { createRunTracker } from "../jobs/run-tracker.js";
import { countsText } from "../jobs/run-text.js";
import { niosxaasView } from "../niosxaas/niosxaas.js";
import { overviewView } from "../overview/overview.js";
import { startBanner } from "../pauses/banner.js";
import { createPauseState } from "../pauses/pause-state.js";
import { pausesView } from "../pauses/pauses.js";
import { policyView } from "../policy/policy.js";
import { poolsView } from "../pools/pools.js";
import { quarantineView } from "../quarantine/quarantine.js";
import { sandboxesView } from "../sandboxes/sandboxes.js";
import { tokensView } from "../tokens/tokens.js";
import { showWarnings } from "./alerts.js";
import { createAnnouncer } from "./announcer.js";
import { deniedView } from "./denied.js";
import { startFreshnessLine } from "./freshness.js";
import { startRouter } from "./router.js";

const OVERVIEW_INTERVAL_MS = 10_000;

/**
 * Starts the console of a session. `page` has the elements of index.html by id. `drafts` keeps texts that the person has
 * not sent yet. `signInAgain` and `onForbidden` are those of `createApi`. Returns `{announce, stop}`.
 */
export function startConsole({ base, session, drafts, page, signInAgain, onForbidden }) {
  const { may } = session;
  const api = createApi({ base, token: session.token, signInAgain, onForbidden });
  const clock = createClock();
  const overview = observable(null);
  const overviewError = observable(null);
  const announcer = createAnnouncer(page.announcer);
  const runs = createRunTracker({ api, onFinished });
  const pauses = createPauseState({ api });
  const context = { api, clock, session, may, overview, runs, pauses, drafts, announce: announcer.announce };

  function showOverview(data) {
    clock.set(data.at);
    overviewError.set(null);
    overview.set(data);
    runs.followRunning(data.jobs);
    // The banner shows pauses, sooner and with their reasons as text of their own.
    showWarnings(page.alerts, data.warnings.filter(({ code }) => code !== "activity_paused"));
  }

  function onFinished(run, isStartedHere) {
    if (isStartedHere) {
      const counts = countsText(run);
      announcer.announce(`${run.job}: ${run.state}${counts && `, ${counts}`}.`, { isError: run.state !== "succeeded" });
    }
    poll.refresh();
    router.current().refresh?.();
  }

  const poll = createPoll({
    run: async () => showOverview(await api.get("/admin/overview")),
    intervalMs: OVERVIEW_INTERVAL_MS,
    onFailure: (error) => overviewError.set(error.message),
  });

  const stopFreshnessLine = startFreshnessLine({ element: page.freshness, overview, overviewError, clock });
  const views = {
    overview: overviewView(context),
    pools: poolsView(context),
    sandboxes: sandboxesView(context),
    quarantine: quarantineView(context),
    jobs: jobsView(context),
    policy: policyView(context),
    pauses: pausesView(context),
    audit: auditView(context),
    niosxaas: niosxaasView(context),
    tokens: may("admin") ? tokensView(context) : deniedView("Tokens", "admin", session),
  };
  const router = startRouter({ nav: page.nav, title: page.title, slot: page.view, views });
  const stopBanner = startBanner({ element: page.pauses, list: pauses.list, announce: announcer.announce });
  poll.start();
  pauses.start();

  function stop() {
    api.close();
    poll.stop();
    pauses.stop();
    stopBanner();
    router.stop();
    runs.destroy();
    for (const view of Object.values(views)) view.destroy();
    stopFreshnessLine();
    announcer.clear();
    showWarnings(page.alerts, []);
    closeDialogs();
  }

  return { announce: announcer.announce, stop };
}
