// Names of devices, where one station has several that measure the same.
import { useEffect, useSignal } from "./lib.js";
import { list } from "./api.js";

const TAIL = 4;

export const seriesOf = ({ metric, channel }) => `${metric}|${channel}`;

/** Metric and channel of every series of `latest` that more than one device measures. Pure. */
export function sharedSeries(latest) {
  const all = latest.map(seriesOf);
  return new Set(all.filter((series, index) => all.indexOf(series) !== index));
}

/** What to call each of `devices`: its name, with the end of its EUI where two have the same or one has none. Pure. */
export function callNames(devices) {
  const names = devices.map((device) => device.name);
  const isOwn = (name) => name && names.indexOf(name) === names.lastIndexOf(name);
  return new Map(devices.map(({ dev_eui: eui, name }) =>
    [eui, isOwn(name) ? name : `${name ?? ""} …${eui.slice(-TAIL)}`.trim()]));
}

/** Names the devices of `station` (an EUI gives a text); asks for them only if two measure the same. */
export function useDeviceNames(station) {
  const devices = useSignal([]);
  const euis = [...new Set((station?.latest ?? []).map((reading) => reading.dev_eui))];
  const isShared = sharedSeries(station?.latest ?? []).size > 0;
  useEffect(() => {
    if (isShared) list("/devices", { station: station.code }).then(({ items }) => { devices.value = items; }, () => {});
  }, [station?.code, euis.join(), isShared]);
  const names = callNames(euis.map((eui) => devices.value.find((one) => one.dev_eui === eui) ?? { dev_eui: eui }));
  return (eui) => names.get(eui) ?? `…${eui.slice(-TAIL)}`;
}
