// Machines for tests: each has its own file system over this machine's, its own network card, host name and processes, and a real
// systemd as process 1. They are on one network with each other and with the test's operator.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { until } from "./cluster.ts";
import { holdMounts, type MountHolder } from "./mount-holder.ts";

const SYSTEMD = "/lib/systemd/systemd";
/** Where systemd keeps the processes of its units apart, beside control groups of version 1. */
const CGROUPS = ["systemd", "unified"].map((hierarchy) => join("/sys/fs/cgroup", hierarchy));
const root = join(import.meta.dirname, "../..");
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const BOOT_LIMIT_MS = 30_000;

/** What a machine must not see of this one: the repository, homes, whatever Node is installed. */
const HIDDEN = [dirname(root), homedir(), "/usr/local", tmpdir()];
/** Units that would change the kernel, which all machines share, or use the network by themselves. */
const MASKED = [
  "systemd-binfmt.service",
  "systemd-modules-load.service",
  "systemd-networkd.service",
  "systemd-random-seed.service",
  "systemd-remount-fs.service",
  "systemd-resolved.service",
  "systemd-sysctl.service",
  "systemd-timesyncd.service",
  "systemd-udev-trigger.service",
  "systemd-udevd.service",
];

/** $1: the machine's folder, $2: its name, then its hidden folders. Keeps its file system until its stdin ends. */
const HOLD = `set -e
dir=$1; shift
mount -t tmpfs -o size=4g machine "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay machine -o lowerdir=/,upperdir="$dir/upper",workdir="$dir/work" "$dir/root"
for hidden in "$@"; do mkdir -p "$dir/root$hidden"; mount -t tmpfs hidden "$dir/root$hidden"; done
mkdir -p "$dir/root/usr/local/bin"
rm -rf "$dir"/root/etc/systemd/system/*.wants "$dir"/root/var/log/journal "$dir"/root/usr/bin/node "$dir"/root/usr/bin/npm
echo held
read -r end || true`;

/** $1: the folder of the root, $2: the host name. Becomes process 1. */
const BOOT = `set -e
cd "$1"
mount --make-rprivate /
mount -t proc proc proc
mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 dev dev
for each in null zero full random urandom tty; do touch dev/$each; mount --bind /dev/$each dev/$each; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 pts dev/pts
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount -t tmpfs shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd
mount -t cgroup2 cgroup sys/fs/cgroup/unified
# systemd would mount the others itself, in which the machine has no group of its own.
mount -o remount,ro sys/fs/cgroup
hostname "$2"
mkdir -p .old
pivot_root . .old
umount -l .old
exec env -i container=test PATH=${PATH} ${SYSTEMD} --unit=multi-user.target --log-target=journal`;

/** Stand for OpenSSH's programs on the operator's PATH. $dir: where the machines' folders are. Root's files are its own there. */
const SSH = `#!/bin/sh
host=\${1#root@}; shift
[ "$NETWORK" = outside ] || network=-n
exec nsenter -t "$(cat "$dir/$host.one")" -m -u -i -p -C -r -w $network \
  env -i PATH=${PATH} HOME=/root DEBIAN_FRONTEND=noninteractive sh -c "umask 077; cd; $*"
`;
const SCP = `#!/bin/sh
there() { case $1 in
  root@*:) echo "$(cat "$dir/$(expr "$1" : 'root@\\(.*\\):')".disk)/root" ;;
  *) echo "$1" ;;
esac; }
for each in "$@"; do shift; set -- "$@" "$(there "$each")"; done
exec cp -r "$@"
`;

function sh(file: string, ...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(file, args, { encoding: "utf8" });
  assert.equal(status, 0, `${file} ${args.join(" ")}: ${error?.message ?? stderr}`);
}

/** Why machines are not to be had here; false: they are. */
export function withoutMachines(): string | false {
  if (process.getuid?.() !== 0) return "machines need root";
  if (!existsSync(SYSTEMD)) return `there is no ${SYSTEMD}`;
  for (const hierarchy of CGROUPS) if (!existsSync(hierarchy)) return `there is no ${hierarchy}`;
  const { status, stderr, error } = spawnSync("unshare", ["--mount", "--net", "--pid", "--cgroup", "--fork", "true"], {
    encoding: "utf8",
  });
  if (status !== 0) return `there are no namespaces to be had: ${error?.message ?? stderr}`;
  return spawnSync("ip", ["-V"]).status !== 0 && "there is no ip (iproute2)";
}

/** How a command on a machine ended. */
export type Ended = { readonly code: number | null; readonly output: string };

/** One network, with machines and an operator on it. */
export class Machines {
  readonly #dir = mkdtempSync(join(tmpdir(), "cs-machines-"));
  readonly #id = `cs${process.pid}`;
  readonly #hosts: string;
  readonly all: readonly Machine[];

  /** @param addresses of each machine, by its name; `operator` is the address of the one who installs. All in 10.0.0.0/24. */
  constructor(addresses: Readonly<Record<string, string>>, operator: string) {
    this.#hosts = join(this.#dir, "hosts");
    mkdirSync(this.bin);
    for (const [name, program] of Object.entries({ ssh: SSH, scp: SCP }))
      writeFileSync(join(this.bin, name), program.replace("\n", `\ndir=${this.#dir}\n`), { mode: 0o755 });
    const lines = Object.entries({ localhost: "127.0.0.1", ...addresses }).map(
      ([name, address]) => `${address} ${name}\n`,
    );
    writeFileSync(this.#hosts, lines.join(""));
    sh("ip", "netns", "add", this.#id);
    const inSwitch = (...args: readonly string[]) => sh("ip", "-n", this.#id, ...args);
    inSwitch("link", "add", "switch", "type", "bridge");
    inSwitch("address", "add", `${operator}/24`, "dev", "switch");
    for (const link of ["lo", "switch"]) inSwitch("link", "set", link, "up");
    this.all = Object.entries(addresses).map(([name, address]) => {
      const network = `${this.#id}-${name}`;
      sh("ip", "netns", "add", network);
      inSwitch("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", network);
      inSwitch("link", "set", name, "master", "switch", "up");
      sh("ip", "-n", network, "address", "add", `${address}/24`, "dev", "eth0");
      for (const link of ["lo", "eth0"]) sh("ip", "-n", network, "link", "set", link, "up");
      return new Machine({ name, network, dir: join(this.#dir, name), hosts: this.#hosts });
    });
  }

  /** The folder of `ssh` and `scp`, for an operator's PATH. */
  get bin(): string {
    return join(this.#dir, "bin");
  }

  /** The machine of this name. */
  of(name: string): Machine {
    const machine = this.all.find((each) => each.name === name);
    assert.ok(machine !== undefined, `there is no machine ${name}`);
    return machine;
  }

  /** The command that runs a program where the operator is: on the machines' network, with their names. */
  asOperator(): string[] {
    const withNames = `mount --make-rprivate / && mount --bind ${this.#hosts} /etc/hosts && exec "$@"`;
    return ["ip", "netns", "exec", this.#id, "unshare", "--mount", "sh", "-c", withNames, "sh"];
  }

  /** Ends all machines, and takes away what was made for them. */
  async remove(): Promise<void> {
    await Promise.all(this.all.map((machine) => machine.remove()));
    for (const name of [...this.all.map(({ name: each }) => `${this.#id}-${each}`), this.#id])
      sh("ip", "netns", "delete", name);
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

type Place = { readonly name: string; readonly network: string; readonly dir: string; readonly hosts: string };

/** One machine. Its disk stays when it is off. */
export class Machine {
  readonly name: string;
  readonly #place: Place;
  #holder: MountHolder | null = null;
  #booted: ChildProcess | null = null;

  constructor(place: Place) {
    this.#place = place;
    this.name = place.name;
    mkdirSync(place.dir);
  }

  /** Its control groups: without its own, machines would share those of their units. */
  get #cgroups(): string[] {
    return CGROUPS.map((hierarchy) => join(hierarchy, this.#place.network));
  }

  /** Its process 1, as this machine numbers it; 0 before it has one. */
  get #one(): number {
    const { pid = 0 } = this.#booted ?? {};
    const [one = ""] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    return Number(one);
  }

  /** Switches it on; resolves when it has started what it is set to start. Each `reboot` typed on it switches it on again. */
  async boot(): Promise<void> {
    const { dir, name, network } = this.#place;
    this.#holder ??= await this.#hold();
    const mounts = `--mount=/proc/${this.#holder.pid}/ns/mnt`;
    for (const group of this.#cgroups) mkdirSync(group, { recursive: true });
    const apart = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child"];
    // Its processes end with this one, however that ends.
    const enter = [
      "setpriv",
      "--pdeathsig",
      "KILL",
      "nsenter",
      mounts,
      ...apart,
      "sh",
      "-c",
      BOOT,
      "sh",
      join(dir, "root"),
      name,
    ];
    const move = this.#cgroups.map((group) => `echo $$ > ${group}/cgroup.procs`).join(" && ");
    const start = `${move} && exec ip netns exec ${network} "$@"`;
    const booted = spawn("sh", ["-c", start, "sh", ...enter], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    booted.stderr.on("data", (text: Buffer) => (said += text.toString()));
    this.#booted = booted;
    await until(
      `${name} is up`,
      async () => {
        assert.ok(this.isRunning, `${name} did not boot: ${said}`);
        if (!this.#hasSystemd()) return false;
        writeFileSync(`${dir}.one`, String(this.#one));
        const { output } = await this.run("systemctl is-system-running");
        return /^(running|degraded)$/m.test(output);
      },
      BOOT_LIMIT_MS,
    );
  }

  /** Has its process 1 become systemd? */
  #hasSystemd(): boolean {
    const one = this.#one;
    return one !== 0 && readFileSync(`/proc/${one}/comm`, "utf8").trim() === "systemd";
  }

  get isRunning(): boolean {
    return this.#booted !== null && this.#booted.exitCode === null && this.#booted.signalCode === null;
  }

  async #hold(): Promise<MountHolder> {
    const { holder, why } = await holdMounts(HOLD, [this.#place.dir, ...HIDDEN]);
    assert.equal(why, null, `${this.name} has no disk`);
    this.#holder = holder;
    for (const unit of MASKED) this.#write(`/etc/systemd/system/${unit}`, "");
    this.#write("/etc/hosts", readFileSync(this.#place.hosts, "utf8"));
    this.#write("/etc/hostname", `${this.name}\n`);
    writeFileSync(`${this.#place.dir}.disk`, this.pathOf(""));
    return holder;
  }

  /** Its path as this machine sees it. */
  pathOf(path: string): string {
    return join(`/proc/${this.#holder?.pid}/root`, this.#place.dir, "root", path);
  }

  #write(path: string, text: string): void {
    writeFileSync(this.pathOf(path), text);
  }

  /** Runs a shell command on it as root. @param network false: with this machine's network, to install packages. */
  async run(command: string, network = true): Promise<Ended> {
    const env = { ...process.env, ...(network ? {} : { NETWORK: "outside" }) };
    const child = spawn(join(dirname(this.#place.dir), "bin/ssh"), [`root@${this.name}`, command], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text: Buffer) => (output += text.toString()));
    const [code] = (await once(child, "close")) as [number | null];
    return { code, output };
  }

  /** Resolves when it is off: it was cut off, or it reboots. */
  async off(): Promise<void> {
    if (this.isRunning && this.#booted !== null) await once(this.#booted, "exit");
  }

  /** Pulls its plug. */
  async cutOff(): Promise<void> {
    if (!this.isRunning) return;
    process.kill(this.#one, "SIGKILL");
    await this.off();
  }

  async remove(): Promise<void> {
    await this.cutOff();
    if (this.#holder !== null) {
      const ended = once(this.#holder, "exit");
      this.#holder.stdin.end();
      await ended;
    }
    for (const group of this.#cgroups) if (existsSync(group)) removeGroups(group);
  }
}

/** The kernel removes empty control groups only, the innermost first. */
function removeGroups(group: string): void {
  const found = spawnSync("find", [group, "-depth", "-type", "d"], { encoding: "utf8" });
  for (const each of found.stdout.trim().split("\n")) rmdirSync(each);
}
