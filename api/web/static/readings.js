// The readings behind a chart: fetched once, then kept up by the stream.
import { effect, useEffect, useSignal } from "./lib.js";
import { list } from "./api.js";
import { add, columns, forget } from "./series.js";
import { readingBatch, resynced } from "./store.js";

const REDRAW_MS = 500;
const EMPTY = { keys: [], data: [[], []] };

/**
 * `{table, state}`, both signals, of one metric of a station over the last `span` seconds. `state` is "loading",
 * "ready", "partial" (more readings than are fetched; the newest are there) or the Problem that happened.
 */
export function useReadings(code, metric, span) {
  const table = useSignal(EMPTY);
  const state = useSignal("loading");
  useEffect(() => {
    const series = new Map();
    let timer = 0;
    let stopped = false;
    const redraw = () => {
      timer = 0;
      forget(series, Date.now() / 1000 - span);
      table.value = columns(series);
    };
    const take = (readings) => {
      add(series, readings);
      timer ||= setTimeout(redraw, REDRAW_MS);
    };
    const stopStream = effect(() => {
      const batch = readingBatch.value.filter((one) => one.station === code && one.metric === metric);
      if (batch.length) take(batch);
    });
    const stopFetch = effect(() => {
      resynced.value; // whenever the stream was away
      const from = new Date(Date.now() - span * 1000).toISOString();
      list("/readings", { station: code, metric, from, order: "desc" }).then(({ items, complete }) => {
        if (stopped) return;
        add(series, items);
        clearTimeout(timer);
        redraw();
        state.value = complete ? "ready" : "partial";
      }, (problem) => { state.value = problem; });
    });
    return () => {
      stopped = true;
      stopStream();
      stopFetch();
      clearTimeout(timer);
    };
  }, [code, metric, span]);
  return { table, state };
}
