import { execFile } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { execForm, type Instructed, type Ignored, readDockerfile, readDockerignore, type Stage } from "./dockerfile.ts";
import { filesOf, type ImageRoots, type Layers, type User } from "./image-roots.ts";
import { shellEnv } from "./script.ts";

const run = promisify(execFile);

/** What Docker gives an image that says nothing. */
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Settings by which this machine reaches a registry and a mirror. Docker hands proxies on to a build, too. */
const NETWORK = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS"];
const ROOT: User = { uid: 0, gid: 0 };

export type Image = {
  readonly layers: Layers;
  readonly env: Readonly<Record<string, string>>;
  readonly user: User;
  readonly cwd: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** null: none. */
  readonly health: readonly string[] | null;
};

type Growing = { -readonly [Name in keyof Image]: Image[Name] } & { readonly top: string };
type Build = {
  readonly roots: ImageRoots;
  readonly context: string;
  readonly images: Readonly<Record<string, Image>>;
  readonly ignored: Ignored;
  readonly machine: MachineNpm;
  readonly stages: Map<string, Growing>;
};
type MachineNpm = { readonly env: Readonly<Record<string, string>>; readonly cache: string };

/**
 * Carries out a Dockerfile as `docker build -f <dockerfile> <context>` would, as far as this machine can stand in for the base
 * images: both are what Debian's packages have put onto it, and `node:…` is that with the Node of this process and this machine's
 * npm. Files of the context arrive as from a clone under umask 077, as Docker would take them from one.
 * @param images those that FROM may name, too.
 * @throws on what it would carry out in another way; with its output, when a program fails.
 */
export async function buildImage(
  roots: ImageRoots,
  dockerfile: string,
  context: string,
  images: Readonly<Record<string, Image>> = {},
): Promise<Image> {
  const build: Build = {
    roots,
    context,
    images,
    ignored: ignoredBy(dockerfile),
    machine: await npmOfMachine(),
    stages: new Map(),
  };
  let last: Growing | null = null;
  for (const stage of readDockerfile(dockerfile)) {
    last = await begun(build, stage);
    for (const instruction of stage.instructions) await carryOut(build, last, instruction);
    if (stage.name !== null) build.stages.set(stage.name, last);
  }
  if (last === null) throw new Error(`${dockerfile}: no FROM`);
  for (const stage of build.stages.values()) if (!last.layers.includes(stage.top)) roots.remove(stage.top);
  const { top: _, ...image } = last;
  return image;
}

async function begun({ roots, stages, images }: Build, { base }: Stage): Promise<Growing> {
  const earlier = stages.get(base) ?? images[base];
  const top = roots.folder();
  if (earlier !== undefined) return { ...earlier, layers: [top, ...earlier.layers], top };
  if (!/^(node:.*-bookworm-slim|debian:bookworm-slim)$/.test(base)) throw new Error(`not implemented: FROM ${base}`);
  const below = await roots.standIn();
  if (base.startsWith("node:")) await putNode(roots.seen(below));
  const nothing = { env: { PATH }, user: ROOT, cwd: "/", entrypoint: [], command: [], health: null };
  return { ...nothing, layers: [top, below, "/"], top };
}

/** Where the image `node` has it: in /usr/local. */
async function putNode(into: string): Promise<void> {
  const npm = realpathSync((await run("which", ["npm"], { env: shellEnv({}) })).stdout.trim());
  const folder = dirname(dirname(npm));
  if (basename(folder) !== "npm") throw new Error(`npm is not in a folder of its own: ${npm}`);
  const programs = join(into, "usr/local/bin");
  copyFileSync(process.execPath, join(programs, "node"));
  cpSync(folder, join(into, "usr/local/lib/node_modules/npm"), { recursive: true });
  symlinkSync("../lib/node_modules/npm/bin/npm-cli.js", join(programs, "npm"));
}

async function npmOfMachine(): Promise<MachineNpm> {
  const { stdout } = await run("npm", ["config", "get", "registry", "cafile", "cache"], {
    env: shellEnv({}),
    cwd: "/",
  });
  const asked = Object.fromEntries(stdout.split("\n").map((line) => line.split(/=(.*)/s)));
  const env: Record<string, string> = { npm_config_registry: asked["registry"] };
  if (asked["cafile"] !== "null") env["npm_config_cafile"] = asked["cafile"];
  for (const name of NETWORK.flatMap((upper) => [upper, upper.toLowerCase()])) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return { env, cache: asked["cache"] };
}

async function carryOut(build: Build, image: Growing, instruction: Instructed): Promise<void> {
  const { keyword, text } = instruction;
  switch (keyword) {
    case "RUN":
      return await runStep(build, image, instruction);
    case "COPY":
      return await copyStep(build, image, instruction);
    case "WORKDIR":
      image.cwd = resolve(image.cwd, text);
      mkdirSync(build.roots.seen(join(image.top, image.cwd)), { recursive: true });
      return;
    case "ENV":
      image.env = { ...image.env, ...expanded(instruction.variables, image.env) };
      return;
    case "USER":
      image.user = userOf(text);
      return;
    case "ENTRYPOINT":
      image.entrypoint = execForm(text);
      return;
    case "CMD":
      image.command = execForm(text);
      return;
    case "HEALTHCHECK":
      image.health = execForm(text.replace(/^CMD\s+/, ""));
      return;
    case "EXPOSE":
      return;
    default:
      throw new Error(`not implemented: ${keyword}`);
  }
}

const expanded = (variables: Readonly<Record<string, string>>, env: Readonly<Record<string, string>>) =>
  Object.fromEntries(
    Object.entries(variables).map(([name, value]) => [
      name,
      value.replace(/\$\{(\w+)\}|\$(\w+)/g, (_, braced?: string, bare?: string) => env[braced ?? bare ?? ""] ?? ""),
    ]),
  );

function userOf(text: string): User {
  if (text === "root") return ROOT;
  const [, uid, gid] = /^(\d+):(\d+)$/.exec(text) ?? [];
  if (uid === undefined || gid === undefined) throw new Error(`not implemented: USER ${text}`);
  return { uid: Number(uid), gid: Number(gid) };
}

async function runStep(build: Build, image: Growing, { flags, text }: Instructed): Promise<void> {
  const { roots, machine } = build;
  const mounts: Record<string, string[]> = {};
  const { mount } = flags;
  if (mount !== undefined) {
    // The only cache that there is. It is npm's own, by content, whoever fills it.
    if (mount !== "type=cache,target=/root/.npm") throw new Error(`not implemented: RUN --mount=${mount}`);
    mkdirSync(machine.cache, { recursive: true });
    mkdirSync(roots.seen(join(image.top, "root/.npm")), { recursive: true });
    mounts["/root/.npm"] = ["--bind", machine.cache];
  }
  const { layers, top: changes, user, cwd } = image;
  const env = { HOME: "/root", ...machine.env, ...image.env };
  const command = ["/bin/sh", "-c", text];
  const network = "machine's";
  await roots.run({ layers: layers.slice(1), changes, mounts, network, user, env, cwd, command });
}

async function copyStep(build: Build, image: Growing, { flags, text }: Instructed): Promise<void> {
  const { from, chown = "0:0" } = flags;
  if (chown !== "0:0") throw new Error(`not implemented: COPY --chown=${chown}`);
  const words = text.trim().split(/\s+/);
  const to = words.pop() ?? "";
  const target = join(image.top, resolve(image.cwd, to));
  if (from === undefined) {
    for (const source of words) copyFromContext(build, source, build.roots.seen(target), to.endsWith("/"));
    return;
  }
  const stage = build.stages.get(from);
  if (stage === undefined) throw new Error(`not implemented: COPY --from=${from}, which is no earlier stage`);
  // Only what the stage has made itself, which is all in its top layer; else cp says that it is not there.
  for (const source of words) await build.roots.copy(join(stage.top, source), target);
}

function copyFromContext({ context, ignored }: Build, source: string, target: string, intoFolder: boolean): void {
  const path = join(context, source);
  if (!statSync(path).isDirectory()) {
    if (!ignored.isSent(join(source))) throw new Error(`COPY ${source}: is not sent`);
    take(path, intoFolder ? join(target, basename(source)) : target);
    return;
  }
  const below = (file: string) => join(source, file);
  const files = filesOf(
    path,
    (file) => ignored.isSent(below(file)),
    (folder) => ignored.mayHold(below(folder)),
  );
  for (const file of files) take(join(path, file), join(target, file));
}

function take(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
  copyFileSync(from, to);
  chmodSync(to, statSync(from).mode & 0o700);
}

/** Without an ignore file everything is sent. */
function ignoredBy(dockerfile: string): Ignored {
  const path = `${dockerfile}.dockerignore`;
  return readDockerignore(existsSync(path) ? readFileSync(path, "utf8") : "");
}

/** The files of the context that `docker build` would be sent. */
export function contextOf(dockerfile: string, context: string): string[] {
  const { isSent, mayHold } = ignoredBy(dockerfile);
  return filesOf(context, isSent, mayHold);
}

/** A file of an image, or null where the image's own layers do not have it. */
export function fileIn(roots: ImageRoots, { layers }: Image, path: string): string | null {
  for (const layer of layers.slice(0, -1)) {
    const at = roots.seen(join(layer, path));
    if (statSync(at, { throwIfNoEntry: false })?.isFile() === true) return readFileSync(at, "utf8");
  }
  return null;
}
