// The chart of one metric: uPlot with thresholds, alert marks and doubtful points.
import { html, uPlot, useEffect, useRef } from "./lib.js";
import { lang, t } from "./i18n.js";
import { clock, clockSeconds, dateTime, day, measured, number, TIME_ZONE, unit } from "./format.js";
import { metricName } from "./levels.js";

const HEIGHT = 360;
const DAY_S = 86_400;
const LINE_COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4"];
const PADDING = 0.08;
const ALERT_LABEL_PX = 70;
const LABEL_STEP_PX = 15;

const _css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const _font = () => `12px ${getComputedStyle(document.body).fontFamily}`;

/** From the lowest value to the highest, and up to the next threshold above it, with some air. */
function _valueRange(low, high, thresholds) {
  if (low === null || high === null) return [0, 1];
  const next = thresholds.map((one) => one.value).filter((value) => value > high).sort((a, b) => a - b)[0];
  const top = Math.max(high, next ?? high);
  const air = (top - low || Math.abs(top) || 1) * PADDING;
  return [low - air, top + air];
}

function _timeLabels(_chart, splits, _axis, _space, step) {
  let lastDay = "";
  return splits.map((second) => {
    const today = day(second * 1000);
    const text = step >= DAY_S ? today : (step < 60 ? clockSeconds : clock)(second * 1000);
    const withDay = step < DAY_S && today !== lastDay ? `${text}\n${today}` : text;
    lastDay = today;
    return withDay;
  });
}

function _rule(context, from, to, colour, dash) {
  context.strokeStyle = colour;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

function _drawThresholds(chart, thresholds, digits) {
  const { ctx: context, bbox } = chart;
  for (const threshold of thresholds) {
    const y = Math.round(chart.valToPos(threshold.value, "y", true));
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    const colour = _css(`--line-level-${Math.min(threshold.level, 5)}`);
    _rule(context, [bbox.left, y], [bbox.left + bbox.width, y], colour, [8, 5]);
    context.fillStyle = colour;
    context.textAlign = "left";
    context.fillText(`${threshold.label} ${number(threshold.value, digits)}`, bbox.left + 8, y - 6);
  }
}

/** A higher level's label stands higher, so that rises in quick succession stay legible. */
function _drawRises(chart, marks) {
  const { ctx: context, bbox } = chart;
  for (const mark of marks) {
    const x = Math.round(chart.valToPos(Date.parse(mark.at) / 1000, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    const colour = _css(`--line-level-${Math.min(mark.level, 5)}`);
    _rule(context, [x, bbox.top], [x, bbox.top + bbox.height], colour, [2, 3]);
    context.fillStyle = colour;
    const isNearRight = x > bbox.left + bbox.width - ALERT_LABEL_PX * devicePixelRatio;
    context.textAlign = isNearRight ? "right" : "left";
    const y = bbox.top + bbox.height - (8 + (mark.level - 1) * LABEL_STEP_PX) * devicePixelRatio;
    context.fillText(`▲ ${mark.label}`, isNearRight ? x - 5 : x + 5, y);
  }
}

function _drawMarks(chart, { thresholds, marks, metric }) {
  const { ctx: context } = chart;
  context.save();
  context.lineWidth = 1.5 * devicePixelRatio;
  context.font = _font().replace("12px", `${12 * devicePixelRatio}px`);
  _drawThresholds(chart, thresholds, metric?.precision ?? 2);
  _drawRises(chart, marks);
  context.restore();
}

/** Each line's highest and lowest, with the space between them tinted. */
function _bands(keys) {
  const edges = keys.flatMap(() => ["max", "min"].map(() => ({ stroke: "transparent", width: 0, points: { show: false } })));
  const bands = keys.map((_key, index) => {
    const high = keys.length + 2 + 2 * index; // after the seconds, the lines and the doubtful
    return { series: [high, high + 1], fill: `${_css(LINE_COLOURS[index % LINE_COLOURS.length])}33` };
  });
  return { edges, bands };
}

function _series(keys) {
  const lines = keys.map((key, index) => ({
    stroke: _css(LINE_COLOURS[index % LINE_COLOURS.length]), width: 2, points: { size: 4 },
  }));
  const doubtful = {
    stroke: _css("--doubtful"), paths: () => null, auto: false,
    points: { show: true, size: 8, width: 1.5, fill: "transparent" },
  };
  return [{}, ...lines, doubtful];
}

function _options(live, { keys, banded }, width) {
  const { edges, bands } = banded ? _bands(keys) : { edges: [], bands: [] };
  const axis = { stroke: _css("--muted"), grid: { stroke: _css("--grid"), width: 1 }, ticks: { show: false }, font: _font() };
  return {
    width, height: HEIGHT, padding: [16, 12, 0, 0],
    tzDate: (second) => uPlot.tzDate(new Date(second * 1000), TIME_ZONE),
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 8 } },
    scales: {
      x: { range: () => live.current.window() },
      y: { range: (_chart, low, high) => _valueRange(low, high, live.current.thresholds) },
    },
    series: [..._series(keys), ...edges],
    bands,
    axes: [
      { ...axis, values: _timeLabels, space: 70, size: 44 },
      { ...axis, size: 62, values: (_chart, splits, _axis, _space, step) =>
        splits.map((value) => number(value, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)))) },
    ],
    hooks: {
      draw: [(chart) => _drawMarks(chart, live.current)],
      setCursor: [(chart) => live.current.onCursor(_readout(chart, live.current))],
    },
  };
}

function _readout(chart, { metric, ucum, lines }) {
  const index = chart.cursor.idx;
  const values = index === null || index === undefined ? [] : chart.data.slice(1).map((column) => column[index]);
  const found = values.findIndex((one) => Number.isFinite(one));
  if (found < 0) return "";
  const line = lines.length > 1 && found < lines.length ? `  ${lines[found]}` : ""; // the last column is the doubtful
  return `${dateTime(chart.data[0][index] * 1000)}${line}  ${measured(values[found], metric)} ${unit(ucum)}`;
}

/**
 * Draws `table` (`{keys, data}` of series.js) over the last `span` seconds. `metric` is the catalogue's entry,
 * `thresholds` as the interface gives them, `marks` those of marks.js, `lines` a name for each of the table's keys,
 * `time` the right edge in ms.
 */
export function Chart({ table, lines, span, time, metric, thresholds, marks, theme }) {
  const box = useRef(null);
  const readout = useRef(null);
  const chart = useRef(null);
  const live = useRef({});
  live.current = {
    metric, thresholds, marks, lines, ucum: metric?.unit,
    window: () => [time / 1000 - span, time / 1000],
    onCursor: (text) => { readout.current.textContent = text; },
  };
  const shape = `${table.keys.join()}|${table.banded}`;
  useEffect(() => {
    const element = box.current;
    const drawn = new uPlot(_options(live, table, element.clientWidth), table.data, element);
    chart.current = drawn;
    const resized = new ResizeObserver(() => drawn.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    return () => { resized.disconnect(); drawn.destroy(); };
  }, [shape, theme, lang.value]);
  useEffect(() => chart.current.setData(table.data), [table, time, thresholds, JSON.stringify(marks), span]);
  return html`
    <figure class="chart">
      <div class="chart-box" ref=${box} role="img" aria-label=${t("chart.label", { metric: metricName(metric?.key) })}></div>
      <figcaption>
        ${lines.length > 1 && html`<ul class="chart-lines">${lines.map((name, index) => html`
          <li><i class=${`line-key line-key-${index % LINE_COLOURS.length + 1}`} aria-hidden="true"></i>${name}</li>`)}</ul>`}
        <span>${t("chart.zone")} · ${table.banded ? t(`chart.${table.resolution}`) : html`
          <span class="doubtful-key" aria-hidden="true"></span> ${t("chart.doubtful")}${table.thinned && ` · ${t("chart.thinned")}`}`}</span>
        <output class="chart-readout" ref=${readout}></output>
      </figcaption>
    </figure>`;
}
