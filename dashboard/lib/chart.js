// Lines and areas over time, with uPlot. Each chart has a legend of our own, which also tells the values under the
// pointer, and the same figures as a table for those who do not see a canvas.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { fill, h, scrollRegion, setText, table } from "./dom.js";
import { clockTime, dateTime, number } from "./format.js";
import { columnsOf, hourly, stacked, withGaps } from "../overview/tallies.js";

const HEIGHT = 230;

/** `series` are `{key, label}`; a stacked chart has areas on top of each other. */
export function createChart({ label, series, isStacked = false, summary }) {
  const canvas = h("div", { class: "chart", role: "img", "aria-label": label });
  const legend = series.map(({ key, label: name }) => ({
    swatch: h("span", { class: `swatch ${key}` }),
    value: h("span", { class: "legend-value" }),
    name,
  }));
  const moment = h("span", { class: "legend-at" });
  const rows = scrollRegion(`${label}, by the hour`);
  const node = h("figure", { class: "figure" },
    h("ul", { class: "legend", role: "list" },
      legend.map(({ swatch, value, name }) => h("li", {}, swatch, name, value)),
      h("li", {}, moment)),
    canvas,
    h("details", {}, h("summary", {}, "As a table, by the hour"), rows));

  let samples = null;
  let values = null;
  let every = 0;
  let plot = null;

  function showValues(at) {
    const index = at ?? values[0].length - 1;
    legend.forEach(({ value }, column) => {
      const shown = values[column + 1]?.[index];
      setText(value, shown === null || shown === undefined ? "–" : number(shown));
    });
    setText(moment, index >= 0 ? dateTime(values[0][index]) : "");
  }

  function draw() {
    plot?.destroy();
    plot = null;
    if (!values?.[0].length || !canvas.clientWidth) return;
    const colors = legend.map(({ swatch }) => getComputedStyle(swatch).backgroundColor);
    const { color: ink, borderTopColor: grid } = getComputedStyle(canvas);
    const lines = colors.map((stroke) => ({
      stroke, width: 1.5, points: { show: false }, fill: isStacked ? withAlpha(stroke, 0.35) : undefined,
    }));
    const [times, ...columns] = isStacked ? stacked(values) : values;
    // From the top down, so that the line of what there is none of is under the one that it lies on.
    const data = isStacked ? [times, ...columns.reverse()] : values;
    plot = new uPlot({
      width: canvas.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_, __, max) => [0, Math.max(1, max * 1.05)] } },
      axes: [
        { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 28, values: (_, times) => times.map(clockTime) },
        {
          stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 52,
          incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000],
          values: (_, splits) => splits.map(number),
        },
      ],
      series: [{}, ...(isStacked ? lines.reverse() : lines)],
      // An area ends where the one below begins.
      bands: isStacked ? lines.slice(1).map((_, at) => ({ series: [at + 1, at + 2] })) : [],
      hooks: { setCursor: [({ cursor }) => showValues(cursor.idx)] },
    }, data, canvas);
  }

  function update(answer) {
    samples = answer.samples;
    every = answer.every_seconds;
    values = columnsOf(withGaps(samples, every), series.map(({ key }) => key));
    canvas.setAttribute("aria-label", `${label}. ${summary(samples)}`);
    fill(rows, table(label, ["Hour", ...series.map(({ label: name }) => name)],
      hourly(samples).map((hour) => [dateTime(hour.at), ...series.map(({ key }) => number(hour[key] ?? 0))])));
    showValues(null);
    draw();
  }

  const resized = new ResizeObserver(() => {
    if (plot && canvas.clientWidth) plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
    else draw();
  });
  resized.observe(canvas);
  document.addEventListener("themechange", draw);

  return {
    node,
    update,
    destroy() {
      resized.disconnect();
      document.removeEventListener("themechange", draw);
      plot?.destroy();
    },
  };
}

/** `rgb(1, 2, 3)` with an opacity. */
const withAlpha = (color, alpha) => color.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
