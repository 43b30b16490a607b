// What a chart shows: fetched as raw readings or as hours or days, and raw ones kept up by the stream.
import { effect, useEffect, useSignal } from "./lib.js";
import { get, withQuery } from "./api.js";
import { add, columns, forget, readingsOf } from "./series.js";
import { readingBatch, resynced } from "./store.js";

const REDRAW_MS = 500;
const REFRESH_MS = 5 * 60_000; // of what the stream cannot keep up: rollups, and thinned readings
const POINTS = 1000;
const EMPTY = { keys: [], data: [[], []], resolution: "raw", thinned: false };

/**
 * `{table, state}`, both signals, of one metric of a station over the last `span` seconds. `state` is "loading",
 * "ready" or the Problem that happened.
 */
export function useReadings(code, metric, span) {
  const table = useSignal(EMPTY);
  const state = useSignal("loading");
  useEffect(() => {
    let series = new Map();
    let shown = { resolution: "raw", thinned: false, until: -Infinity };
    let timer = 0;
    let asked = 0; // requests so far: of answers that cross, the newest holds
    let loaded = false;
    let complete = false; // false also after a request that failed: the stream may have been away
    const arrived = []; // while a request is under way
    const redraw = () => {
      timer = 0;
      forget(series, Date.now() / 1000 - span);
      const { resolution, thinned, until } = shown;
      table.value = { ...columns(series, thinned ? until : -Infinity), resolution, thinned };
    };
    const take = (readings) => {
      arrived.push(...readings);
      if (shown.resolution !== "raw") return;
      add(series, readings);
      timer ||= setTimeout(redraw, REDRAW_MS);
    };
    const fetchAll = () => {
      arrived.length = 0;
      const mine = ++asked;
      complete = false;
      const from = new Date(Date.now() - span * 1000).toISOString();
      get(withQuery("/series", { station: code, metric, from, points: POINTS })).then((answer) => {
        if (mine !== asked) return;
        shown = { ...answer, until: Date.parse(answer.to) / 1000 };
        series = new Map();
        add(series, readingsOf(answer));
        if (answer.resolution === "raw") add(series, arrived);
        clearTimeout(timer);
        redraw();
        loaded = complete = true;
        state.value = "ready";
      }, (problem) => {
        // What is shown stays: it is older, not wrong, and is fetched again.
        if (mine === asked && !loaded) state.value = problem;
      });
    };
    const stopStream = effect(() => {
      const batch = readingBatch.value.filter((one) => one.station === code && one.metric === metric);
      if (batch.length) take(batch);
    });
    const stopFetch = effect(() => {
      resynced.value; // whenever the stream was away
      fetchAll();
    });
    const refresh = setInterval(() => {
      if (!complete || shown.resolution !== "raw" || shown.thinned) fetchAll();
    }, REFRESH_MS);
    return () => {
      asked += 1;
      stopStream();
      stopFetch();
      clearInterval(refresh);
      clearTimeout(timer);
    };
  }, [code, metric, span]);
  return { table, state };
}
