import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Automount asks through a pipe that nobody reads, so that whoever touches the mount waits until it is killed. */
const MOUNT = `
mkfifo "$1/pipe" && exec 3<>"$1/pipe" &&
mount -t autofs hung "$1/mount" -o fd=3,pgrp=$$,minproto=5,maxproto=5,direct &&
echo mounted && exec cat`;

/** A folder that answers nothing, in a mount namespace of its own: this process may touch it, those `within` must not. */
export class HungMount {
  readonly #dir: string;
  readonly #holder: ChildProcess;

  private constructor(dir: string, holder: ChildProcess) {
    this.#dir = dir;
    this.#holder = holder;
  }

  /** @returns why there is none, where that is so: it takes root, and a kernel with autofs. */
  static async make(): Promise<HungMount | string> {
    if (process.platform !== "linux") return "only Linux has autofs";
    const dir = mkdtempSync(join(tmpdir(), "cs-hung-"));
    mkdirSync(join(dir, "mount"));
    // The members of the mount's process group do not wait: it has one of its own.
    const holder = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh", dir], {
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    let said = "";
    holder.stderr.on("data", (text: Buffer) => (said += text.toString()));
    const isMounted = await new Promise<boolean>((resolve) => {
      holder.stdout.once("data", () => resolve(true));
      holder.once("error", (error) => {
        said = error.message;
        resolve(false);
      });
      holder.once("close", () => resolve(false));
    });
    const mount = new HungMount(dir, holder);
    if (isMounted) return mount;
    mount.end();
    return `no autofs can be mounted: ${said.trim()}`;
  }

  get path(): string {
    return join(this.#dir, "mount");
  }

  /** What starts a program where the mount is: for `TestCluster.through`. */
  within(cwd: string): string[] {
    return ["nsenter", `--mount=/proc/${this.#holder.pid}/ns/mnt`, `--wd=${cwd}`];
  }

  end(): void {
    this.#holder.kill("SIGKILL");
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
