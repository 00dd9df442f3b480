import { join, resolve } from "node:path";
import { execForm, type Instructed, readDockerfile } from "./dockerfile.ts";

export const DOCKERFILE = join(import.meta.dirname, "../../infra/Dockerfile");

export type User = { readonly uid: number; readonly gid: number };
export const ROOT: User = { uid: 0, gid: 0 };

/** What an image says about each container that is made from it. */
export type ImageSettings = {
  readonly env: Readonly<Record<string, string>>;
  readonly user: User;
  readonly cwd: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** null: none. */
  readonly health: readonly string[] | null;
  readonly ports: readonly number[];
};

/** As of an image that says nothing; the PATH is Docker's. */
export const NO_SETTINGS: ImageSettings = {
  env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
  user: ROOT,
  cwd: "/",
  entrypoint: [],
  command: [],
  health: null,
  ports: [],
};

/** The settings of the image that a Dockerfile makes, without making it. Base images that are no stages count as saying nothing. */
export function readSettings(dockerfile: string): ImageSettings {
  const stages = new Map<string, ImageSettings>();
  let last = NO_SETTINGS;
  for (const { name, base, instructions } of readDockerfile(dockerfile)) {
    last = stages.get(base) ?? NO_SETTINGS;
    for (const instruction of instructions) last = { ...last, ...changedBy(instruction, last) };
    if (name !== null) stages.set(name, last);
  }
  return last;
}

/** What an instruction changes. @throws if that is not implemented. */
export function changedBy({ keyword, text, variables }: Instructed, before: ImageSettings): Partial<ImageSettings> {
  switch (keyword) {
    case "RUN":
    case "COPY":
      return {};
    case "WORKDIR":
      return { cwd: resolve(before.cwd, text) };
    case "ENV":
      return { env: { ...before.env, ...expanded(variables, before.env) } };
    case "USER":
      return { user: userOf(text) };
    case "ENTRYPOINT":
      return { entrypoint: execForm(text) };
    case "CMD":
      return { command: execForm(text) };
    case "HEALTHCHECK":
      return { health: execForm(text.replace(/^CMD\s+/, "")) };
    case "EXPOSE":
      return { ports: [...before.ports, portOf(text)] };
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

function portOf(text: string): number {
  if (!/^\d+$/.test(text)) throw new Error(`not implemented: EXPOSE ${text}`);
  return Number(text);
}
