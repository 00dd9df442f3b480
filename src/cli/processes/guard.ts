import { type ChildProcess, spawn } from "node:child_process";

/** Long enough for a Redis to write its log to disk and a node worker to end its stitches (5 s of grace by default). */
const GRACE_TENTHS = 80;

/**
 * Reads lines `+pid` and `-pid` until its input closes: at the latest when the process at the other end dies, however that
 * happens. Then it sends SIGTERM to all processes that are left, and SIGKILL after the grace period. It runs in a session of
 * its own, so that Ctrl-C on the terminal does not end it before the other processes.
 */
const GUARD = `
trap '' INT TERM HUP QUIT
pids=' '
while IFS= read -r line; do
  pid=\${line#?}
  case $line in
    +*) pids="$pids$pid " ;;
    -*) pids="\${pids%% $pid *} \${pids#* $pid }" ;;
  esac
done
for pid in $pids; do kill -TERM "$pid"; done 2>/dev/null
tenths=${GRACE_TENTHS}
while [ $tenths -gt 0 ]; do
  left=no
  for pid in $pids; do kill -0 "$pid" && left=yes; done 2>/dev/null
  [ $left = no ] && exit 0
  sleep 0.1
  tenths=$((tenths - 1))
done
for pid in $pids; do kill -KILL "$pid"; done 2>/dev/null
`;

/** A small process that ends the added processes when this process is gone, even after SIGKILL. */
export class Guard {
  readonly #sh: ChildProcess;
  readonly #ended: Promise<void>;

  /** @param label shown in the list of processes. */
  constructor(label: string) {
    this.#sh = spawn("/bin/sh", ["-c", GUARD, "crossstitch-guard", label], {
      cwd: "/",
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
      env: { PATH: "/usr/bin:/bin" },
    });
    this.#ended = new Promise((resolve) => {
      this.#sh.once("exit", () => resolve());
      this.#sh.once("error", () => resolve());
    });
    // If somebody kills the guard, the added processes are no longer guarded; that is no reason to end them.
    this.#sh.stdin?.on("error", () => undefined);
    this.#sh.unref();
  }

  get pid(): number | null {
    return this.#sh.pid ?? null;
  }

  add(pid: number): void {
    this.#sh.stdin?.write(`+${pid}\n`);
  }

  /** Call this when the process has ended: its pid may soon belong to another process. */
  remove(pid: number): void {
    this.#sh.stdin?.write(`-${pid}\n`);
  }

  /** Ends the processes that were not removed, then the guard itself. May be called twice. Resolves within about 8 s. */
  async close(): Promise<void> {
    this.#sh.ref();
    this.#sh.stdin?.end();
    await this.#ended;
  }
}
