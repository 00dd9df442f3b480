import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { holdMounts, type MountHolder } from "./mount-holder.ts";

/**
 * Automount asks through a pipe that nobody reads. So a process that touches a mount waits until it is killed, or until the
 * mount is told that nobody answers (AUTOFS_IOC_CATATONIC, linux/auto_fs.h). Then the process gets "no such file".
 */
const MOUNT = `
hang() { mount -t autofs hung "$1" -o fd=3,pgrp=$$,minproto=5,maxproto=5,direct; }
free() { perl -e 'open my $at, "<", shift or die $!; ioctl $at, 0x9362, 0 or die $!' "$1"; umount -l "$1"; }
mkfifo "$1/pipe" && exec 3<>"$1/pipe" && hang "$1/mount" && echo done || exit
while read -r what path; do "$what" "$path" && echo done; done`;

/** A folder that hangs, in its own mount namespace. This process may touch the folder; processes `within` must not. */
export class HungMount {
  readonly #dir: string;
  readonly #holder: MountHolder;

  private constructor(dir: string, holder: MountHolder) {
    this.#dir = dir;
    this.#holder = holder;
  }

  /** @returns the mount, or why there is none: it needs root, and a kernel with autofs. */
  static async make(): Promise<HungMount | string> {
    if (process.platform !== "linux") return "only Linux has autofs";
    const dir = mkdtempSync(join(tmpdir(), "cs-hung-"));
    mkdirSync(join(dir, "mount"));
    // The members of the mount's process group do not wait, and the holder has one of its own.
    const { holder, why } = await holdMounts(MOUNT, [dir]);
    const mount = new HungMount(dir, holder);
    if (why === null) return mount;
    mount.end();
    return `no autofs can be mounted: ${why}`;
  }

  get path(): string {
    return join(this.#dir, "mount");
  }

  /** From now on a folder hangs, with all below it, for processes `within`, even if they use it already. */
  async cover(path: string): Promise<void> {
    await this.#tell(`hang ${path}`);
  }

  /** A covered folder answers again, and the processes that waited for it go on. */
  async uncover(path: string): Promise<void> {
    await this.#tell(`free ${path}`);
  }

  async #tell(line: string): Promise<void> {
    const { stdin, stdout } = this.#holder;
    const done = once(stdout, "data");
    stdin.write(`${line}\n`);
    await done;
  }

  /** The command that starts a program in the mount's namespace, for `TestCluster.through`. */
  within(cwd: string): string[] {
    return ["nsenter", `--mount=/proc/${this.#holder.pid}/ns/mnt`, `--wd=${cwd}`];
  }

  end(): void {
    this.#holder.kill("SIGKILL");
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
