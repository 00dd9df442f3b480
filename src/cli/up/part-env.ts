import { settings } from "../../config.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** What programs need of the environment around them; above all the variables of npm scripts stay out. */
const KEPT = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "NODE_EXTRA_CA_CERTS"];
/** Settings that are each part's own. */
const OWN = [
  "REDIS_URL",
  "STITCH_HOST",
  "STITCH_PORT",
  "STITCH_TOKEN",
  "STITCH_URL",
  "STITCH_NODE_ID",
  "STITCH_ZONES",
  "STITCH_STATE_DIR",
  "STITCH_ROLES",
];

/** The environment of one part: the settings given to `stitch up` that hold for all, with `own` laid over them. */
export function partEnv(env: Env, own: Env): Record<string, string> {
  const shared = Object.keys(settings.shape).filter((name) => !OWN.includes(name));
  const result: Record<string, string> = {};
  for (const name of [...KEPT, ...shared]) if (env[name] !== undefined) result[name] = env[name];
  for (const [name, value] of Object.entries(own)) if (value !== undefined) result[name] = value;
  return result;
}
