import { type ChildProcess, spawn } from "node:child_process";

/** A process that holds a mount namespace of its own, by the shell script that it runs. It has pipes for all of its streams. */
export type MountHolder = ChildProcess & {
  readonly stdin: NonNullable<ChildProcess["stdin"]>;
  readonly stdout: NonNullable<ChildProcess["stdout"]>;
};

/**
 * Runs a script in a mount namespace of its own, as the leader of a process group of its own. Resolves when it has printed something.
 * @returns `why`: null, or what it has said if it ended before that.
 */
export async function holdMounts(
  script: string,
  args: readonly string[],
): Promise<{ readonly holder: MountHolder; readonly why: string | null }> {
  const command = ["--mount", "--propagation", "private", "sh", "-c", script, "sh", ...args];
  const holder = spawn("unshare", command, { detached: true, stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  holder.stderr.on("data", (text: Buffer) => (said += text.toString()));
  const why = await new Promise<string | null>((resolve) => {
    holder.stdout.once("data", () => resolve(null));
    holder.once("error", (error) => resolve(error.message));
    holder.once("close", () => resolve(said.trim()));
  });
  return { holder, why };
}
