// Light or dark, as the device says; drawings on a canvas follow it through this signal.
import { signal } from "./lib.js";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
export const theme = signal(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => { theme.value = dark.matches ? "dark" : "light"; });
