// The view "Overview": the state of the pool and the jobs at a glance, and the last 24 hours.

import { fill, h, scrollRegion, section } from "../lib/dom.js";
import { jobTable } from "../jobs/job-table.js";
import { runList } from "../jobs/run-list.js";
import { leakCard } from "../leaks/leak-card.js";
import { allocationBars } from "./allocation-bars.js";
import { labQuotas } from "./lab-quotas.js";
import { poolCharts } from "./pool-charts.js";
import { poolPanel } from "./pool-panel.js";
import { poolSummary } from "./pool-summary.js";

export function overviewView(context) {
  const { overview, clock } = context;
  const pool = poolPanel();
  const pools = poolSummary();
  const running = runList(context);
  const jobs = scrollRegion("Jobs");
  const charts = poolCharts(context);
  const labs = labQuotas();
  const leaks = leakCard(context);
  const bars = allocationBars(context, labs.updateLeases);
  const node = h("div", {},
    section("Pool", pool.node),
    pools.node,
    section("Running jobs", running.node),
    section("Jobs", jobs),
    labs.node,
    leaks.node,
    h("div", { class: "two" }, charts.nodes, bars.nodes));

  const unsubscribe = overview.subscribe((data) => {
    if (!data) return;
    pool.update(data);
    pools.update(data.pools ?? []); // An older broker, during a deployment, does not name them.
    fill(jobs, jobTable(data.jobs, clock.now()));
    labs.update(data.labs ?? []); // As above.
  });

  return {
    title: "Overview",
    node,
    show() {
      charts.poll.start();
      bars.poll.start();
      leaks.poll.start();
    },
    hide() {
      charts.poll.stop();
      bars.poll.stop();
      leaks.poll.stop();
    },
    destroy() {
      this.hide();
      unsubscribe();
      running.destroy();
      charts.destroy();
    },
  };
}
