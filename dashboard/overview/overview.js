// The view "Overview": the state of the pool and the jobs at a glance, and the last 24 hours.

import { fill, h, scrollRegion, section } from "../lib/dom.js";
import { jobTable } from "../jobs/job-table.js";
import { runList } from "../jobs/run-list.js";
import { allocationBars } from "./allocation-bars.js";
import { poolCharts } from "./pool-charts.js";
import { poolPanel } from "./pool-panel.js";

export function overviewView(context) {
  const { overview, clock } = context;
  const pool = poolPanel();
  const running = runList(context);
  const jobs = scrollRegion("Jobs");
  const charts = poolCharts(context);
  const bars = allocationBars(context);
  const node = h("div", {},
    section("Pool", pool.node),
    section("Running jobs", running.node),
    section("Jobs", jobs),
    h("div", { class: "two" }, charts.nodes, bars.nodes));

  const unsubscribe = overview.subscribe((data) => {
    if (!data) return;
    pool.update(data);
    fill(jobs, jobTable(data.jobs, clock.now()));
  });

  return {
    title: "Overview",
    node,
    show() {
      charts.poll.start();
      bars.poll.start();
    },
    hide() {
      charts.poll.stop();
      bars.poll.stop();
    },
    destroy() {
      this.hide();
      unsubscribe();
      running.destroy();
      charts.destroy();
    },
  };
}
