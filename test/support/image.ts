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
import { type Instructed, type Ignored, readDockerfile, readDockerignore, type Stage } from "./dockerfile.ts";
import { DEFAULT_CAPABILITIES, filesOf, type ImageRoots, type Layers, type Mount } from "./image-roots.ts";
import { changedBy, type ImageSettings, NO_SETTINGS } from "./image-settings.ts";
import { shellEnv } from "./script.ts";

const run = promisify(execFile);

/** Settings by which this machine reaches a registry and a mirror. Docker hands proxies on to a build, too. */
const NETWORK = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS"];

export type Image = ImageSettings & { readonly layers: Layers };

/** An image, or a stage of it, while its instructions are carried out. They change what is in `top`, its first layer. */
type Growing = { readonly settings: ImageSettings; readonly layers: Layers; readonly top: string };
type Build = {
  readonly roots: ImageRoots;
  readonly context: string;
  readonly images: Readonly<Record<string, Image>>;
  readonly ignored: Ignored;
  readonly machine: MachineNpm;
  /** By name. A stage may still be at work. */
  readonly stages: Map<string, Promise<Growing>>;
  /** The layers that the build has made. */
  readonly made: string[];
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
    made: [],
  };
  // As BuildKit does, all stages at once; one that needs another waits for it.
  const all = readDockerfile(dockerfile).map((stage) => {
    const made = stageOf(build, stage);
    if (stage.name !== null) build.stages.set(stage.name, made);
    return made;
  });
  // If one fails, the others may be at work still.
  await Promise.allSettled(all);
  const last = (await Promise.all(all)).at(-1);
  if (last === undefined) throw new Error(`${dockerfile}: no FROM`);
  for (const layer of build.made) if (!last.layers.includes(layer)) roots.remove(layer);
  return { ...last.settings, layers: last.layers };
}

async function stageOf(build: Build, stage: Stage): Promise<Growing> {
  let made = await begun(build, stage);
  for (const instruction of stage.instructions) made = await carriedOut(build, made, instruction);
  return made;
}

async function begun({ roots, stages, images, made }: Build, { base }: Stage): Promise<Growing> {
  const top = roots.folder();
  made.push(top);
  const stage = await stages.get(base);
  if (stage !== undefined) return { ...stage, layers: [top, ...stage.layers], top };
  const image = images[base];
  if (image !== undefined) {
    const { layers, ...settings } = image;
    return { settings, layers: [top, ...layers], top };
  }
  if (!/^(node:.*-bookworm-slim|debian:bookworm-slim)$/.test(base)) throw new Error(`not implemented: FROM ${base}`);
  const below = await roots.standIn();
  made.push(below);
  if (base.startsWith("node:")) await putNode(roots.seen(below));
  return { settings: NO_SETTINGS, layers: [top, below, "/"], top };
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

async function carriedOut(build: Build, stage: Growing, instruction: Instructed): Promise<Growing> {
  const settings = { ...stage.settings, ...changedBy(instruction, stage.settings) };
  if (instruction.keyword === "RUN") await runStep(build, stage, instruction);
  if (instruction.keyword === "COPY") await copyStep(build, stage, instruction);
  if (instruction.keyword === "WORKDIR") makeFolder(build.roots, stage, settings.cwd);
  return { ...stage, settings };
}

/** Makes a folder in the stage's top layer, and those above it, with the modes that they have in the layers below. */
function makeFolder(roots: ImageRoots, stage: Growing, path: string): void {
  if (path === "/") return;
  makeFolder(roots, stage, dirname(path));
  const [made = "", ...below] = stage.layers.map((layer) => roots.seen(join(layer, path)));
  if (existsSync(made)) return;
  const like = below.map((folder) => statSync(folder, { throwIfNoEntry: false })).find((found) => found !== undefined);
  mkdirSync(made);
  chmodSync(made, like?.isDirectory() === true ? like.mode & 0o7777 : 0o755);
}

async function runStep({ roots, machine }: Build, stage: Growing, { flags, text }: Instructed): Promise<void> {
  const mounts: Mount[] = [];
  const { mount } = flags;
  if (mount !== undefined) {
    // The only cache that there is. It is npm's own, by content, whoever fills it.
    if (mount !== "type=cache,target=/root/.npm") throw new Error(`not implemented: RUN --mount=${mount}`);
    mkdirSync(machine.cache, { recursive: true });
    mounts.push({ at: "/root/.npm", from: machine.cache, readOnly: false });
  }
  const { layers, top: changes } = stage;
  const { user, cwd } = stage.settings;
  await roots.run({
    layers: layers.slice(1),
    changes,
    readOnly: false,
    mounts,
    network: "machine's",
    hostname: null,
    rights: { user, capabilities: DEFAULT_CAPABILITIES, newPrivileges: true },
    env: { HOME: "/root", ...machine.env, ...stage.settings.env },
    cwd,
    command: ["/bin/sh", "-c", text],
  });
}

async function copyStep(build: Build, into: Growing, { flags, text }: Instructed): Promise<void> {
  const { from, chown = "0:0" } = flags;
  if (chown !== "0:0") throw new Error(`not implemented: COPY --chown=${chown}`);
  const words = text.trim().split(/\s+/);
  const to = words.pop() ?? "";
  const path = resolve(into.settings.cwd, to);
  const target = join(into.top, path);
  const isOneFile =
    from === undefined && !to.endsWith("/") && !statSync(join(build.context, words[0] ?? "")).isDirectory();
  makeFolder(build.roots, into, isOneFile ? dirname(path) : path);
  if (from === undefined) {
    for (const source of words) copyFromContext(build, source, build.roots.seen(target), !isOneFile);
    return;
  }
  const stage = await build.stages.get(from);
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
