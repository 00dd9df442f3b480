import { UsageError } from "../terminal/usage-error.ts";

/** Where stitches can be run: as processes in groups, which signals reach. */
const PLATFORMS: readonly NodeJS.Platform[] = ["linux", "darwin"];

/** @throws UsageError if nodes do not run on this platform. `command`: what was asked for, such as `stitch node`. */
export function refuseOtherPlatform(command: string, platform = process.platform): void {
  if (PLATFORMS.includes(platform)) return;
  throw new UsageError(
    `${command} runs on Linux and macOS, and this is ${platform}. Run it there (WSL is a Linux); the commands that talk to an API work here, too.`,
  );
}
