import { execFile } from "node:child_process";
import { readdir, readFile, readlink } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const LSOF_LIMIT_MS = 5000;
/** Of /proc/net/tcp: the state of a socket that listens. */
const LISTENING = "0A";

/** @returns who listens on a TCP port, such as `pid 4711 (node server.js)`; null where the system does not tell. */
export async function portOwner(port: number): Promise<string | null> {
  try {
    return process.platform === "linux" ? await ownerByProc(port) : await ownerByLsof(port);
  } catch {
    // It only makes a message better.
    return null;
  }
}

async function ownerByProc(port: number): Promise<string | null> {
  const sockets = (await Promise.all(["tcp", "tcp6"].map((table) => listening(table, port)))).flat();
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || !(await holdsOne(pid, sockets))) continue;
    const command = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").join(" ").trim();
    return `pid ${pid} (${command.slice(0, 200)})`;
  }
  return null;
}

/** proc_pid_net(5). @returns `socket:[inode]` of each. */
async function listening(table: string, port: number): Promise<string[]> {
  const lines = (await readFile(`/proc/net/${table}`, "utf8").catch(() => "")).split("\n").slice(1);
  const hexPort = port.toString(16).toUpperCase().padStart(4, "0");
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(`:${hexPort}`) === true && fields[3] === LISTENING)
    .map((fields) => `socket:[${fields[9]}]`);
}

async function holdsOne(pid: string, sockets: readonly string[]): Promise<boolean> {
  // Another user's process, or one that has just ended: not to be looked into.
  const files = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const links = await Promise.all(files.map((file) => readlink(`/proc/${pid}/fd/${file}`).catch(() => "")));
  return links.some((link) => sockets.includes(link));
}

async function ownerByLsof(port: number): Promise<string | null> {
  const args = ["-nP", `-iTCP:${port}`, "-sTCP:LISTEN", "-Fpc"];
  const { stdout } = await run("lsof", args, { timeout: LSOF_LIMIT_MS });
  const [pid, command] = ["p", "c"].map((field) => new RegExp(`^${field}(.*)$`, "m").exec(stdout)?.[1]);
  return pid === undefined ? null : `pid ${pid} (${command})`;
}
