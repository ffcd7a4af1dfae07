// A chart over time, drawn by uPlot, with its own legend and an hourly table for readers who cannot see the canvas.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { fill, h, scrollRegion, setText, table } from "./dom.js";
import { clockTime, dateTime, number } from "./format.js";
import { columnsOf, hourly, stacked, timeRange, withGaps } from "./time-series.js";

const HEIGHT = 230;
const MAX_POINTS = 12; // Up to an hour of samples has points too: a line through a single one is invisible.

/**
 * `series` are `{key, label}`. A stacked chart draws areas on top of each other. `summary(samples)` describes the chart
 * in words, for screen readers.
 */
export function createChart({ label, series, isStacked = false, summary }) {
  const canvas = h("div", { class: "chart", role: "img", "aria-label": label });
  const legend = series.map(({ key, label: name }) => ({
    swatch: h("span", { class: `swatch ${key}` }),
    value: h("span", { class: "legend-value" }),
    name,
  }));
  const legendTime = h("span", { class: "legend-at" });
  const hourlyTable = scrollRegion(`${label}, by hour`);
  const node = h("figure", { class: "figure" },
    h("ul", { class: "legend", role: "list" },
      legend.map(({ swatch, value, name }) => h("li", {}, swatch, name, value)),
      h("li", {}, legendTime)),
    canvas,
    h("details", {}, h("summary", {}, "As a table, by hour"), hourlyTable));

  let values = null; // The columns of the chart before stacking: the legend shows these.
  let plot = null;

  /** Shows the values at an index in the legend; the latest ones if there is none. */
  function showValues(index) {
    const shownIndex = index ?? values[0].length - 1;
    legend.forEach(({ value }, column) => {
      const shown = values[column + 1]?.[shownIndex];
      setText(value, shown === null || shown === undefined ? "–" : number(shown));
    });
    setText(legendTime, shownIndex >= 0 ? dateTime(values[0][shownIndex]) : "");
  }

  function draw() {
    plot?.destroy();
    plot = null;
    if (!values?.[0].length || !canvas.clientWidth) return;
    const colors = legend.map(({ swatch }) => getComputedStyle(swatch).backgroundColor);
    const { color: ink, borderTopColor: grid } = getComputedStyle(canvas);
    const hasPoints = values[0].length <= MAX_POINTS;
    const lines = colors.map((stroke) => ({
      stroke, width: 1.5, points: { show: hasPoints, size: 6, fill: stroke }, fill: isStacked ? withAlpha(stroke, 0.35) : undefined,
    }));
    const [times, ...columns] = isStacked ? stacked(values) : values;
    // Stacked series are drawn from the top down, so that the line of an empty one is covered by the line below it.
    const data = isStacked ? [times, ...columns.reverse()] : values;
    plot = new uPlot({
      width: canvas.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        x: { range: () => timeRange(times[0], times.at(-1)) }, // uPlot's own one is a day for a single sample.
        y: { range: (_, __, max) => [0, Math.max(1, max * 1.05)] },
      },
      axes: [
        {
          stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 28,
          values: (_, times) => times.map(clockTime),
        },
        {
          stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 52,
          incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000],
          values: (_, splits) => splits.map(number),
        },
      ],
      series: [{}, ...(isStacked ? lines.reverse() : lines)],
      // Each area is filled down to the line of the series below it.
      bands: isStacked ? lines.slice(1).map((_, index) => ({ series: [index + 1, index + 2] })) : [],
      hooks: { setCursor: [({ cursor }) => showValues(cursor.idx)] },
    }, data, canvas);
  }

  /** Shows the response of `GET /admin/samples`. */
  function update({ samples, every_seconds: intervalSeconds }) {
    values = columnsOf(withGaps(samples, intervalSeconds), series.map(({ key }) => key));
    canvas.setAttribute("aria-label", `${label}. ${summary(samples)}`);
    fill(hourlyTable, table(label, ["Hour", ...series.map(({ label: name }) => name)],
      hourly(samples).map((hour) => [dateTime(hour.at), ...series.map(({ key }) => number(hour[key] ?? 0))])));
    showValues(null);
    draw();
  }

  const resizeObserver = new ResizeObserver(() => {
    if (plot && canvas.clientWidth) plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
    else draw();
  });
  resizeObserver.observe(canvas);
  document.addEventListener("themechange", draw);

  return {
    node,
    update,
    destroy() {
      resizeObserver.disconnect();
      document.removeEventListener("themechange", draw);
      plot?.destroy();
    },
  };
}

/** Adds an opacity to a colour of the form `rgb(1, 2, 3)`. */
const withAlpha = (color, alpha) => color.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
