// What `npm run release` runs: makes release/crossstitch-VERSION, a folder that runs on a machine with nothing installed, and beside it
// the same as an archive. It is the npm package, the locked packages that it needs, and the Node that CI tests it with.
//   node infra/release.ts --folder    makes no archive, which would take some seconds
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
const name = `crossstitch-${version}`;
const release = join(root, "release");
const folder = join(release, name);
const archive = `${name}-${process.platform}-${process.arch}.tar.gz`;

/** @throws if the program fails; what it printed is above. */
function run(program: string, args: readonly string[], cwd: string): void {
  const { status, error } = spawnSync(program, args, { cwd, stdio: ["ignore", "inherit", "inherit"] });
  if (status !== 0) throw error ?? new Error(`${program} ${args.join(" ")}: exit code ${status}`);
}

rmSync(release, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const packed = mkdtempSync(join(tmpdir(), "crossstitch-release-"));
try {
  run("npm", ["pack", "--silent", "--pack-destination", packed], root);
  run("tar", ["-xzf", join(packed, `${name}.tgz`), "-C", folder, "--strip-components=1"], root);
} finally {
  rmSync(packed, { recursive: true, force: true });
}

// npm wants its own lock file, which names the packages for development, too.
cpSync(join(root, "package-lock.json"), join(folder, "package-lock.json"));
const flags = ["--omit=dev", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--silent"];
run("npm", ["ci", ...flags], folder);
rmSync(join(folder, "package-lock.json"));

cpSync(join(root, "infra/bin"), join(folder, "bin"), { recursive: true });
cpSync(realpathSync(join(root, "node_modules/node/bin/node")), join(folder, "bin/node"));
for (const program of readdirSync(join(folder, "bin"))) chmodSync(join(folder, "bin", program), 0o755);

process.stdout.write(`release/${name}\n`);
if (!process.argv.includes("--folder")) {
  // Whoever packs the same files gets the same archive; whatever the umask here, root owns what is unpacked, and all may read it.
  const same = [
    "--mode=u+rwX,go+rX,go-w",
    "--sort=name",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    "--mtime=2000-01-01 00:00Z",
  ];
  run("tar", [...same, "-czf", archive, name], release);
  process.stdout.write(`release/${archive}\n`);
}
