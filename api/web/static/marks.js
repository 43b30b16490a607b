// When alerts rose to a level: the marks of a chart.
import { useEffect, useSignal } from "./lib.js";
import { list } from "./api.js";

const RISES = ["opened", "escalated"];
const MOST_ALERTS = 20;

/** The rises among `transitions` that still stand, as `[{at, level, label}]`. Pure. */
export function rises(transitions) {
  const withdrawn = new Set(transitions.map((one) => one.withdraws));
  return transitions
    .filter((one) => RISES.includes(one.kind) && !withdrawn.has(one.seq))
    .map((one) => ({ at: one.at, level: one.to_level, label: one.label }));
}

/** Until its transitions are known, and if they cannot be had, an alert is marked where it began, without a level. */
const _opening = (alert) => [{ at: alert.opened_at, level: 1, label: "" }];

/** The marks of the newest `alerts` that were open within the last `span` seconds, as `rises` gives them. */
export function useMarks(alerts, span) {
  const known = useSignal(new Map()); // alert id → {seq, marks}
  const since = Date.now() - span * 1000;
  const shown = alerts
    .filter((one) => one.state !== "withdrawn" && (!one.ended_at || Date.parse(one.ended_at) > since))
    .slice(0, MOST_ALERTS);
  const versions = shown.map((one) => `${one.id}:${one.seq}`).join();
  useEffect(() => {
    for (const { id, seq } of shown.filter((one) => known.value.get(one.id)?.seq !== one.seq)) {
      list(`/alerts/${id}/transitions`).then(
        ({ items }) => { known.value = new Map(known.value).set(id, { seq, marks: rises(items) }); }, () => {});
    }
  }, [versions]);
  return shown.flatMap((alert) => known.value.get(alert.id)?.marks ?? _opening(alert));
}
