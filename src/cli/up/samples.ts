import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { ApiError, type Client, type CommandBody } from "../../client/client.ts";
import { packageFolder } from "../../package-folder.ts";
import { failureLines, jobLine } from "../terminal/job-text.ts";

const run = promisify(execFile);
const CREATE_WAIT_MS = 15_000;
const CHECK_LIMIT_MS = 5000;
const root = packageFolder();

/** One stitch of an application that `stitch up` starts. */
export type Sample = {
  readonly node: string;
  readonly id: string;
  readonly group: string;
  readonly protocol: "process-v1" | "none";
  readonly command: readonly string[];
};

/**
 * The samples that can run on this machine, by application. Each stitch comes after those it writes to: a message to a
 * stitch that is not there is not sent.
 */
export async function samples(): Promise<ReadonlyMap<string, readonly Sample[]>> {
  const python = await findPython();
  const file = (name: string): string => join(root, "infra/samples", name);
  const speaks = (node: string, id: string, group: string, ...command: string[]): Sample => ({
    node,
    id,
    group,
    protocol: "process-v1",
    command,
  });
  const js = (node: string, id: string, group: string, name: string, ...args: string[]): Sample =>
    speaks(node, id, group, process.execPath, file(name), ...args);

  const counters = ["counter-1", "counter-2", "counter-3"];
  const wordcount = [
    ...counters.map((id, index) => js(`n${index + 1}`, id, "wordcount.counter.1", "counter.mjs")),
    js("n1", "splitter", "wordcount.splitter.1", "splitter.mjs", join(root, "LICENSE"), ...counters),
    js("n2", "collector", "wordcount.collector.1", "collector.mjs", "splitter", ...counters),
  ];
  const penpals = (python3: string): Sample[] => [
    // -B: what Python keeps of the library that bob imports would be written into this package.
    speaks("n2", "bob", "penpals.bob.1", python3, "-B", file("bob.py")),
    js("n1", "ann", "penpals.ann.1", "ann.mjs"),
  ];
  const disk: Sample = {
    node: "n3",
    id: "disk",
    group: "samples.disk.1",
    protocol: "none",
    command: ["/bin/sh", file("disk.sh")],
  };
  return new Map([
    ["wordcount", wordcount],
    ...(python === null ? [] : [["penpals", penpals(python)] as const]),
    ["samples", [disk]],
  ]);
}

/**
 * Creates samples, one after the other, unless they are there already: what was stopped stays stopped. May be repeated.
 * @returns a line on what was done.
 */
export async function ensureSamples(client: Client, wanted: readonly Sample[], signal: AbortSignal): Promise<string> {
  const byResult = new Map<string, string[]>();
  for (const sample of wanted) {
    const result = await ensureSample(client, sample, signal);
    byResult.set(result, [...(byResult.get(result) ?? []), `${sample.node}:${sample.id}`]);
  }
  return [...byResult].map(([result, ids]) => `${ids.join(", ")} ${result}`).join("; ");
}

/** @returns what was done, to be said of the sample. */
async function ensureSample(client: Client, sample: Sample, signal: AbortSignal): Promise<string> {
  const fullId = `${sample.node}:${sample.id}`;
  try {
    const { desired } = await client.stitch(fullId, { signal });
    return `there already${desired === "running" ? "" : ", stopped"}: left so`;
  } catch (error) {
    if (!(error instanceof ApiError && error.code === "not_found")) throw error;
    const { movedTo } = error.problem;
    if (movedTo !== undefined) return `moved to ${movedTo}: left so`;
  }
  const body: CommandBody = {
    command: "stitch.create",
    target: sample.group,
    node: sample.node,
    id: sample.id,
    reason: "sample of stitch up",
    // Where it begins is for show: a drain or a rebalance may move it.
    spec: { adaptor: "process", protocol: sample.protocol, command: sample.command, reschedule: true },
  };
  const { job, replayed } = await client.command(body, { waitMs: CREATE_WAIT_MS, idempotencyKey: keyOf(body), signal });
  if (replayed && job.finishedAt !== null) return "created before and removed: left so";
  return job.status === "succeeded" ? "started" : [jobLine(job), ...failureLines(job)].join("\n  ");
}

/** Always the same for the same sample. A clone in another folder has other paths, and the API refuses one key for two bodies. */
function keyOf(body: CommandBody): string {
  return `sample-${createHash("sha256").update(JSON.stringify(body)).digest("hex").slice(0, 32)}`;
}

async function findPython(): Promise<string | null> {
  const python = (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((path) => join(path, "python3"))
    .find(isExecutable);
  if (python === undefined) return null;
  try {
    // macOS has a python3 that asks in a window whether to install one; this says no first.
    if (process.platform === "darwin" && python === "/usr/bin/python3") {
      await run("xcode-select", ["-p"], { timeout: CHECK_LIMIT_MS });
    }
    await run(python, ["-c", "pass"], { timeout: CHECK_LIMIT_MS });
    return python;
  } catch {
    return null;
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
