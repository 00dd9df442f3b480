import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { ApiError, type Client, type CommandBody } from "../../client/client.ts";
import { failureLines, jobLine } from "../job-text.ts";

const run = promisify(execFile);
const CREATE_WAIT_MS = 15_000;
const CHECK_LIMIT_MS = 5000;
const folder = join(import.meta.dirname, "../../../infra/samples");

export type Sample = {
  readonly node: string;
  readonly id: string;
  readonly group: string;
  readonly protocol: "process-v1" | "none";
  readonly command: readonly string[];
};

/** The samples that can run on this machine. */
export async function samples(): Promise<Sample[]> {
  const python = await findPython();
  const file = (name: string): string => join(folder, name);
  const sample = (node: string, id: string, protocol: Sample["protocol"], ...command: string[]): Sample => ({
    node,
    id,
    group: `samples.${id}.1`,
    protocol,
    command,
  });
  return [
    sample("n1", "clock", "process-v1", process.execPath, file("clock.mjs")),
    ...(python === null ? [] : [sample("n2", "counter", "process-v1", python, file("counter.py"))]),
    sample("n3", "disk", "none", "/bin/sh", file("disk.sh")),
  ];
}

/**
 * Creates a sample, unless it is there already: what was stopped stays stopped. May be repeated.
 * @returns a line on what was done.
 */
export async function ensureSample(client: Client, sample: Sample, signal: AbortSignal): Promise<string> {
  const fullId = `${sample.node}:${sample.id}`;
  try {
    const { desired } = await client.stitch(fullId, { signal });
    return `${fullId} is there, ${desired === "running" ? "to run" : "stopped"}: left so`;
  } catch (error) {
    if (!(error instanceof ApiError && error.code === "not_found")) throw error;
  }
  const body: CommandBody = {
    command: "stitch.create",
    target: sample.group,
    node: sample.node,
    id: sample.id,
    reason: "sample of stitch up",
    spec: { adaptor: "process", protocol: sample.protocol, command: sample.command },
  };
  const { job, replayed } = await client.command(body, { waitMs: CREATE_WAIT_MS, idempotencyKey: keyOf(body), signal });
  if (replayed && job.finishedAt !== null) return `${fullId} was created before and removed: left so`;
  return job.status === "succeeded" ? `${fullId} started` : [jobLine(job), ...failureLines(job)].join("\n  ");
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
