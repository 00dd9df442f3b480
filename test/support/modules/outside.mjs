// A module that fails outside of any stitch, once the file exists that TRIGGER names.
import { existsSync, readFileSync } from "node:fs";

const trigger = process.env.TRIGGER ?? "";
setInterval(() => {
  if (!existsSync(trigger)) return;
  const error = new Error("a fault outside of any stitch");
  if (readFileSync(trigger, "utf8") === "reject") void Promise.reject(error);
  else throw error;
}, 20).unref();

/** The only export that a module needs. */
export const start = () => undefined;
