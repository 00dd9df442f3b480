// The container image, built and run as far as a machine without a container engine can: test/support/image.ts says how far.
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";
import { validate } from "dockerfile-utils";
import { settings } from "../../src/config.ts";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { readProcesses } from "../../workers/node/processes/process-table.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { Container, type ContainerOptions, newVolume } from "../support/container.ts";
import { readDockerfile, readDockerignore } from "../support/dockerfile.ts";
import { buildImage, contextOf, type Image } from "../support/image.ts";
import { ImageRoots } from "../support/image-roots.ts";
import { DOCKERFILE } from "../support/image-settings.ts";
import { isRunning, processesOf } from "../support/process-list.ts";
import { type Proxy, startProxy } from "../support/proxy.ts";
import { quietPort } from "../support/quiet-port.ts";

const url = REDISES[0]?.url ?? "";
const root = join(import.meta.dirname, "../..");
const TOKEN = "a-token-of-32-characters-at-least";
const START_LIMIT_MS = 60_000;
/** As in docs/operations.md. */
const CONFINED: ContainerOptions = {
  readOnly: true,
  tmpfs: ["/tmp", "/run/crossstitch:uid=10001,gid=10001,mode=0700"],
  capDrop: ["ALL"],
  securityOpt: ["no-new-privileges:true"],
};

const roots = await ImageRoots.make();
const skip = typeof roots === "string" && roots;
after(async () => {
  if (typeof roots !== "string") await roots.end();
});

describe("the Dockerfile", () => {
  it("has no mistakes that a linter finds, and takes the Node of package.json", () => {
    const text = readFileSync(DOCKERFILE, "utf8");
    assert.deepEqual(validate(text), []);
    const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const [build, image] = readDockerfile(DOCKERFILE);
    assert.equal(build?.base, `node:${devDependencies.node}-bookworm-slim`);
    const variables = image?.instructions.flatMap((one) => Object.keys(one.variables)) ?? [];
    assert.ok(variables.length > 3);
    assert.deepEqual(
      variables.filter((name) => name !== "PATH" && !(name in settings.shape)),
      [],
    );
  });

  it("is sent what a release is made from, and nothing else of a clone", () => {
    const sent = contextOf(DOCKERFILE, root);
    assert.ok(sent.includes("src/cli/main.ts") && sent.includes(".npmrc"));
    const folders = new Set(
      sent.map((path) =>
        path
          .split("/")
          .slice(0, path.startsWith("test/") ? 2 : 1)
          .join("/"),
      ),
    );
    const expected = [".npmrc", "LICENSE", "README.md", "docs", "infra", "package-lock.json", "package.json", "src"];
    expected.push("test/contract", "test/support", "tsconfig.build.json", "tsconfig.json", "workers");
    assert.deepEqual([...folders].sort(), expected);

    const { isSent } = readDockerignore(readFileSync(`${DOCKERFILE}.dockerignore`, "utf8"));
    const lyingAbout = [".env", "node.env", "src/debug.log", "infra/samples/__pycache__/bob.pyc", "release/x.tar.gz"];
    lyingAbout.push(".git/config", "node_modules/node/bin/node", "test/unit/version.test.ts", "dist/cli/main.js");
    assert.deepEqual(lyingAbout.filter(isSent), []);
  });
});

/** Process 1 of the container of the node n1 reaps what a stitch has left to it. */
async function takesOrphansAway(cluster: TestCluster, node: Container): Promise<void> {
  // The subshell ends, so that each is an orphan, which writes down who its parent is then, and ends.
  const orphan = '(sh -c "sleep 0.3; grep PPid /proc/\\$\\$/status >> parents" &)';
  await cluster.create("n1", "orphans", ["sh", "-c", `${orphan}; ${orphan}; ${orphan}; exec sleep 600`]);
  const parents = `/var/lib/crossstitch/${cluster.name}/n1/data/orphans/parents`;
  const written = async () => (await node.exec(["cat", parents])).stdout;
  await until("they have written", async () => (await written()) === "PPid:\t1\n".repeat(3));
  const one = await node.one();
  assert.match(readlinkSync(`/proc/${one}/exe`), /\/tini$/);
  await until("no zombie is left", async () => {
    const rows = (await readProcesses()) ?? assert.fail("the system shows no processes");
    return !rows.some(({ parent, zombie }) => parent === one && zombie);
  });
}

describe("the image", { skip }, () => {
  if (typeof roots === "string") return;
  let image: Image;
  before(async () => {
    image = await buildImage(roots, DOCKERFILE, root);
  });

  const started = (t: TestContext, args: readonly string[], options: ContainerOptions = {}): Container => {
    const container = new Container(roots, image, args, { stopTimeoutMs: 30_000, ...options });
    t.after(() => container.remove());
    container.start();
    return container;
  };
  /** A part that has begun to work; its health check fails as long as it gets no answer of Redis. */
  const healthy = async (t: TestContext, redis: Proxy, part: string, options: ContainerOptions): Promise<Container> => {
    redis.hold();
    const container = started(t, [part], options);
    const asks = () => {
      container.mustRun();
      return redis.held > 0;
    };
    await until(`the ${part} asks Redis`, asks, START_LIMIT_MS);
    const before = await container.health();
    redis.release();
    assert.equal(before.code, 1, before.stdout);
    assert.match(before.stderr, /has not worked within the last 20 s/);
    await until(`the ${part} is healthy`, async () => (await container.health()).code === 0, START_LIMIT_MS);
    return container;
  };
  /** What a shell in the image prints. */
  const shell = async (t: TestContext, script: string): Promise<string> => {
    const container = started(t, ["-c", script], { entrypoint: ["sh"] });
    assert.equal(await container.exited, 0, container.output);
    return container.output;
  };

  it("shows the help by default, and stands for `stitch`", async (t) => {
    const help = started(t, []);
    assert.equal(await help.exited, 0, help.output);
    assert.match(help.output, /^Usage: stitch /m);
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const asked = started(t, ["--version"], CONFINED);
    assert.deepEqual([await asked.exited, asked.output.trim()], [0, version]);
  });

  it("holds the release, whole and for reading alone, and nothing of its building", async (t) => {
    assert.equal(
      await shell(t, "for name in node stitch healthy redis-user tini; do dirname $(command -v $name); done | uniq"),
      "/opt/crossstitch/bin\n/usr/bin\n",
    );
    assert.equal((await shell(t, "node --version")).trim(), process.version);
    assert.equal(await shell(t, "find /opt/crossstitch ! -user root -o ! -group root -o ! -type l -writable"), "");
    // Each can be read, also where the clone was made under umask 077.
    assert.equal(await shell(t, "find /opt/crossstitch ! -readable -o -type d ! -executable"), "");
    assert.equal(
      await shell(t, "ls -A /src /root /usr/local/bin /var/lib/apt/lists 2>&1 | grep -v '^$' | sort"),
      [
        "/usr/local/bin:",
        "/var/lib/apt/lists:",
        "ls: cannot access '/src': No such file or directory",
        "ls: cannot open directory '/root': Permission denied",
        "",
      ].join("\n"),
    );
    const files = (await shell(t, "cd /opt/crossstitch && find . -type f")).trim().split("\n");
    assert.ok(files.length > 500);
    const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    for (const name of Object.keys(dependencies))
      assert.ok(
        files.some((file) => file.startsWith(`./node_modules/${name}/`)),
        name,
      );
    for (const name of Object.keys(devDependencies))
      assert.ok(!files.some((file) => file.startsWith(`./node_modules/${name}/`)), name);
    const own = files.filter((file) => !file.startsWith("./node_modules/"));
    assert.deepEqual(
      own.filter((file) => /\.test\.|(^|\/)(\.npmrc|\.env.*|.*lock.*\.json|.*\.pem)$/.test(file)),
      [],
    );
  });

  it("gives its user two folders, and no others", async (t) => {
    assert.equal(
      await shell(t, "echo ~; id -u; id -g; stat -c '%n %u:%g %a' /run/crossstitch /var/lib/crossstitch"),
      "/var/lib/crossstitch\n10001\n10001\n/run/crossstitch 10001:10001 700\n/var/lib/crossstitch 10001:10001 700\n",
    );
    const writable = "find / -xdev -type d -writable ! -path '/tmp*' ! -path '/var/tmp*' 2>/dev/null | sort; true";
    assert.equal(await shell(t, writable), "/run/crossstitch\n/var/lib/crossstitch\n");
  });

  it("runs no API that whoever reaches it can command", async (t) => {
    const api = started(t, ["api"], { env: { REDIS_URL: url }, network: "own" });
    assert.equal(await api.exited, 1);
    assert.match(api.output, /^STITCH_TOKEN: must be set to listen on 0\.0\.0\.0/m);
  });

  it("runs an API that is reached from outside its container, with the token", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "cs-image-redis-"));
    // The user of the image must get to its socket.
    chmodSync(dir, 0o755);
    const redis = await startLocalRedis({ dir, settings: { unixsocketperm: "777" } });
    t.after(async () => {
      await redis.stop();
      rmSync(dir, { recursive: true });
    });
    const env = { REDIS_URL: `redis+unix:///mnt/${basename(redis.url)}`, STITCH_TOKEN: TOKEN };
    const api = started(t, ["api"], { env, network: "own", volumes: [`${dir}:/mnt`] });
    await until("it is healthy", async () => (await api.health()).code === 0, START_LIMIT_MS);
    assert.match(api.output, /API on http:\/\/0\.0\.0\.0:8787/);
    // One that listens on 127.0.0.1 alone does not answer here.
    const ask = `await globalThis.fetch("http://127.0.0.2:8787/readyz").then(async (answer) => console.log(answer.status, await answer.text()))`;
    const answer = await api.exec(["node", "--input-type=module", "--eval", ask]);
    assert.match(answer.stdout, /^200 /, answer.stderr);
    assert.deepEqual((await api.exec(["stitch", "nodes"])).code, 0);
    assert.equal(await api.stop(), 0);
  });

  for (const [how, confined] of [
    ["", {}],
    [", confined as in the docs", CONFINED],
  ] as const)
    it(`runs all three parts, healthy and to a good end${how}`, async (t) => {
      await withCluster(url, {}, async (cluster) => {
        const proxy = await startProxy(Number(new URL(url).port));
        t.after(() => proxy.stop());
        const port = await quietPort();
        const env = {
          REDIS_URL: `redis://127.0.0.1:${proxy.port}`,
          STITCH_CLUSTER: cluster.name,
          STITCH_NODE_ID: "n1",
          STITCH_ROLES: "node",
          STITCH_TOKEN: TOKEN,
          // This machine's network is that of the container, too: nobody else may reach the API.
          STITCH_HOST: "127.0.0.1",
          STITCH_PORT: String(port),
          STITCH_URL: `http://127.0.0.1:${port}`,
        };
        const state = "/var/lib/crossstitch";
        const volumes = how === "" ? [] : [`${newVolume(roots, image, state)}:${state}`];
        const api = await healthy(t, proxy, "api", { ...confined, env });
        const master = await healthy(t, proxy, "master", { ...confined, env });
        const node = await healthy(t, proxy, "node", { ...confined, env, volumes });

        const ready = await checkedFetch(`${env.STITCH_URL}/readyz`, { headers: { authorization: `Bearer ${TOKEN}` } });
        assert.equal(ready.status, 200, await ready.text());
        const refused = await checkedFetch(`${env.STITCH_URL}/v1/nodes`);
        assert.equal(refused.status, 401, await refused.text());
        const nodes = await api.exec(["stitch", "nodes"]);
        assert.match(nodes.stdout, /^n1 +alive/m, nodes.stderr);

        await takesOrphansAway(cluster, node);

        const ends = await Promise.all([api, master, node].map((part) => part.stop()));
        assert.deepEqual(ends, [0, 0, 0], node.output);
        assert.equal((await cluster.master.state.node("n1")).liveness, "left");
      });
    });

  it("is the base of an image with other runtimes, as the docs show", async (t) => {
    const docs = readFileSync(join(root, "docs/operations.md"), "utf8");
    const [, text] =
      /^```dockerfile\n(FROM crossstitch\n[^]*?)^```$/m.exec(docs) ?? assert.fail("there is no such block");
    assert.ok(text !== undefined);
    assert.deepEqual(validate(text), []);
    const context = mkdtempSync(join(tmpdir(), "cs-image-context-"));
    t.after(() => rmSync(context, { recursive: true }));
    writeFileSync(join(context, "Dockerfile"), text);
    const derived = await buildImage(roots, join(context, "Dockerfile"), context, { crossstitch: image });
    assert.deepEqual({ ...derived, layers: [] }, { ...image, layers: [] });
    const python = new Container(roots, derived, ["--version"], { entrypoint: ["python3"] });
    t.after(() => python.remove());
    python.start();
    assert.equal(await python.exited, 0, python.output);
  });

  it("leaves no folder and no process", async () => {
    const running = new Container(roots, image, ["600"], { entrypoint: ["sleep"] });
    running.start();
    const one = await running.one();
    await running.remove();
    // The kernel closes its output a moment before it has ended.
    await until("process 1 has ended", () => !isRunning(one), 5000);
    const { path } = roots;
    await roots.end();
    assert.ok(!existsSync(path));
    await until("no process is left", async () => (await processesOf(path)).length === 0, 5000);
  });
});
