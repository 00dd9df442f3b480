// A program may import this file alone: whatever it needs at run time lies in this folder, but for three small files beside it.
import type * as z from "zod";
import type { COMMANDS } from "../domain/commands/command.ts";
import type { CommandName } from "../domain/commands/command-names.ts";
import type { Recipient } from "../domain/message.ts";
import type { ListedStitchResource, StitchResource } from "../contract/stitch.ts";
import type { PlanResource } from "../contract/plan.ts";
import type { AdoptedResource, NodeResource } from "../contract/node.ts";
import type { LogLineResource } from "../contract/log-line.ts";
import type { ListResource } from "../contract/list.ts";
import type { JobResource, ListedJobResource, ListedStepResource } from "../contract/job.ts";
import type { GroupResource } from "../contract/group.ts";
import type { EventResource } from "../contract/event.ts";
import type { DeadLetterResource, SentResource } from "../contract/message.ts";
import type { ClusterResource, MasterModeResource } from "../contract/cluster.ts";
import type { ChosenMaster } from "../domain/master-mode.ts";
import { wrongToken, wrongUrl } from "../api-address.ts";
import { follow, type FollowCall } from "./follow.ts";
import { type FollowOptions, followEvents } from "./follow-events.ts";
import { type Page, readPages } from "./pages.ts";
import { parse, type Query, type Request, request, type Transport } from "./request.ts";
import { withRetries } from "./retry.ts";
import { type WaitOptions, waitForJob } from "./wait-for-job.ts";

export { ApiError, ApiUnreachable, NotTheApi } from "./errors.ts";
export type { AdoptedResource, NodeResource } from "../contract/node.ts";
export type { ChosenMaster } from "../domain/master-mode.ts";
export type { ClusterResource, MasterModeResource } from "../contract/cluster.ts";
export type { CommandName } from "../domain/commands/command-names.ts";
export type { DeadLetterResource, SentResource } from "../contract/message.ts";
export type { ErrorCode } from "../domain/errors.ts";
export type { EventResource } from "../contract/event.ts";
export type { FollowCall } from "./follow.ts";
export type { FollowOptions } from "./follow-events.ts";
export type { GroupResource } from "../contract/group.ts";
export type { JobResource, ListedJobResource, ListedStepResource } from "../contract/job.ts";
export type { ListedStitchResource, StitchResource } from "../contract/stitch.ts";
export type { ListResource } from "../contract/list.ts";
export type { LogLineResource } from "../contract/log-line.ts";
export type { Page } from "./pages.ts";
export type { PlanResource } from "../contract/plan.ts";
export type { ProblemResource } from "../contract/problem.ts";
export type { Recipient } from "../domain/message.ts";
export type { WaitOptions } from "./wait-for-job.ts";

export type ClientOptions = {
  /** Where the API is, such as `http://127.0.0.1:8787`: http or https, without user, password, ? and #. */
  readonly url: string;
  /** The API's `STITCH_TOKEN`: letters, digits and `._~+/-`, then `=`. null or empty: none is sent. */
  readonly token?: string | null;
  /** Default: the platform's. */
  readonly fetch?: typeof globalThis.fetch;
};

/** Body of `POST /v1/commands`: the fields of every command, and the options of this one. The API checks it. */
export type CommandBody = {
  readonly command: string;
  readonly target: string;
  readonly deadlineMs?: number | undefined;
  readonly waitForNode?: boolean | undefined;
  readonly reason?: string | undefined;
  readonly planToken?: string | undefined;
  readonly [option: string]: unknown;
};

/** The CommandBody of one command, by its name: `client.command({…} satisfies BodyOf<"group.scale">)`. */
export type BodyOf<Name extends CommandName> = z.input<(typeof COMMANDS)[Name]["schema"]>;

export type CommandOptions = {
  /**
   * Answer when the job ends, or after this many milliseconds (at most 60,000; many gateways bear no more than 25,000). To
   * wait for longer: `waitForJob`.
   */
  readonly waitMs?: number;
  /** Makes it safe to repeat the call: the same key and body return the same job. */
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
};

/** Body of `POST /v1/messages`. The API checks it. */
export type MessageBody = {
  readonly to: Recipient;
  readonly channel?: string | undefined;
  /** A string is sent as it is, anything else as its JSON text. */
  readonly data: unknown;
  /** What to wait for (default `none`: until it is stored). */
  readonly expect?: "none" | "ack" | "reply" | undefined;
  /** How long to wait for that, in milliseconds (default 5000, at most 60,000). */
  readonly timeoutMs?: number | undefined;
};

/** `replayed`: an earlier call with the same key created the job. */
export type CommandAnswer = { readonly job: JobResource; readonly replayed: boolean };

export type Filter<Name extends string> = Page & Readonly<Partial<Record<Name, string | undefined>>>;
export type Call = { readonly signal?: AbortSignal };

/**
 * A typed client of the HTTP API (docs/http.md). Each request has a time limit: its `waitMs` and 15 s. A call throws ApiError,
 * ApiUnreachable or NotTheApi, or the reason of its signal. A read without `waitMs` is repeated, at most twice, if the API is
 * away: nothing answered, the API answered 503, or a proxy answered for it (NotTheApi with status 502 to 504 or 520 to 527).
 * Anything else is sent once. Unknown fields of an answer are kept.
 *
 * A list has all that its filter matches, over as many pages as it takes, or the first `limit`. `nextCursor` is null at its
 * end; else there may be more, and the same call with `cursor: nextCursor` continues the list.
 */
export type Client = {
  readonly url: string;
  cluster(call?: Call): Promise<ClusterResource>;
  nodes(filter?: Filter<"liveness" | "zone">, call?: Call): Promise<ListResource<NodeResource>>;
  node(id: string, call?: Call): Promise<NodeResource>;
  /** Forgets a dead or left node with its stitches, queue and routes. @throws ApiError `node_alive` */
  forgetNode(id: string, call?: Call): Promise<void>;
  /**
   * Adopts the stitches of a node that no Master has assigned to it, as far as Redis knows: for a Redis that came back empty
   * or older. Safe to repeat.
   */
  adoptNode(id: string, call?: Call): Promise<AdoptedResource>;
  /** Changes the mode of the cluster's Masters. A second call changes nothing. */
  changeMode(to: ChosenMaster, call?: Call): Promise<MasterModeResource>;
  stitches(
    filter?: Filter<"group" | "node" | "state" | "health">,
    call?: Call,
  ): Promise<ListResource<ListedStitchResource>>;
  /** By full id, or by bare id if only one node has it. */
  stitch(id: string, call?: Call): Promise<StitchResource>;
  /**
   * The last `tail` lines of a stitch's log (100 by default, at most 10,000), oldest first.
   * @throws ApiError `node_unreachable`
   */
  logs(id: string, options?: Call & { readonly tail?: number | undefined }): Promise<ListResource<LogLineResource>>;
  /**
   * The last `tail` lines (100 by default) of a stitch's log, then each new line. When the connection was lost, or the node
   * was away for a while, it continues after the last line seen. @throws as `followEvents`, and `not_found` once the stitch
   * is removed.
   */
  followLogs(
    id: string,
    options?: FollowCall & { readonly tail?: number | undefined },
  ): AsyncGenerator<LogLineResource>;
  groups(page?: Page, call?: Call): Promise<ListResource<GroupResource>>;
  group(name: string, call?: Call): Promise<GroupResource>;
  /**
   * Past events, oldest first. Without `since`, they are the newest `limit` (default 100), and `cursor` goes back to older ones.
   * With `since` (an id or a time), they are the first `limit` from there on (default: all), and `cursor` goes forward.
   * @throws ApiError `events_gone`: those after `since` are no longer kept.
   */
  events(filter?: Filter<"type" | "node" | "group" | "since">, call?: Call): Promise<ListResource<EventResource>>;
  /** Events as they happen. */
  followEvents(options?: FollowOptions): AsyncGenerator<EventResource>;
  command(body: CommandBody, options?: CommandOptions): Promise<CommandAnswer>;
  /** What the command would do; nothing is changed. */
  plan(body: CommandBody, call?: Call): Promise<PlanResource>;
  /** The newest first; `limit` is 100 by default, because finished jobs are kept for a day. */
  jobs(filter?: Filter<"status" | "target" | "command">, call?: Call): Promise<ListResource<ListedJobResource>>;
  /** The job now; with `waitMs` (at most 60,000), when it has ended or that time is up. */
  job(id: string, options?: Call & { readonly waitMs?: number }): Promise<JobResource>;
  /**
   * Waits until the job has ended, over restarts of the API and while it takes no more requests (429), and returns it; after
   * `timeoutMs`, as it is then (`finishedAt` is null, and the job goes on).
   * @throws ApiError `not_found`; when the API stays away for 30 s, ApiUnreachable, ApiError with status 503, or NotTheApi with
   *   the status of a proxy; the signal's reason. Given an id: whatever kept it from reading the job before the time was up.
   */
  waitForJob(job: JobResource | string, options: WaitOptions): Promise<JobResource>;
  steps(id: string, filter?: Filter<"status" | "node">, call?: Call): Promise<ListResource<ListedStepResource>>;
  /** @throws ApiError `job_finished` */
  cancelJob(id: string, call?: Call): Promise<JobResource>;
  /**
   * Repeats the parts of a finished job that did not succeed, as a new job. A second call returns the same new job.
   * @throws ApiError `group_busy` (the job has not ended, or another job works there), `job_finished` (all of it succeeded),
   *   `placement_failed`
   */
  retryJob(id: string, call?: Call): Promise<JobResource>;
  /**
   * Undoes what a finished job has changed, as a new job. `reason`: why; kept with the new job. A second call returns the
   * same new job.
   * @throws ApiError `group_busy`, `not_reversible`, `placement_failed`
   */
  rollbackJob(id: string, call?: Call & { readonly reason?: string | undefined }): Promise<JobResource>;
  /**
   * Sends a message and waits as the body says. A second call with the same key sends nothing, and waits for what the
   * first one sent.
   * @throws ApiError `no_recipient`, `ambiguous_stitch`, `not_addressable`, `inbox_full`, `too_large`; to one stitch also
   *   `stitch_failed` and `reply_timeout`.
   */
  send(body: MessageBody, options?: Call & { readonly idempotencyKey?: string }): Promise<SentResource>;
  /**
   * Messages that could not be delivered, node by node, the oldest of each first. `limit` is 100 by default, because each has
   * its data with it.
   */
  deadLetters(filter?: Filter<"node" | "stitch">, call?: Call): Promise<ListResource<DeadLetterResource>>;
  /**
   * Sends a dead letter to where its stitch lives now, and deletes it.
   * @throws ApiError `no_recipient`, `ambiguous_stitch`, `not_addressable`, `inbox_full`
   */
  redriveDeadLetter(id: string, call?: Call): Promise<SentResource>;
  deleteDeadLetter(id: string, call?: Call): Promise<void>;
};

/** How long the API waits for the answer to a message without `timeoutMs`. */
const SEND_WAIT_MS = 5000;

/** The `limit` of a list that may be too long to be read whole without being asked to. */
const SOME = 100;

/**
 * A client of the API at `options.url`. It sends nothing until it is called, and needs no closing.
 *
 *     import { ApiError, createClient } from "crossstitch/client";
 *
 *     const client = createClient({ url: "http://127.0.0.1:8787", token: process.env.STITCH_TOKEN ?? null });
 *     const { items } = await client.stitches({ group: "shop.orders", state: "failed" });
 *     try {
 *       const { job } = await client.command({ command: "group.restart", target: "shop.orders" });
 *       const ended = await client.waitForJob(job, { timeoutMs: 300_000 });
 *       console.log(ended.status);
 *     } catch (error) {
 *       if (!(error instanceof ApiError && error.code === "group_busy")) throw error;
 *     }
 *     for await (const event of client.followEvents({ group: "shop" })) console.log(event.type, event.stitch);
 *
 * @throws TypeError if `url` or `token` cannot be used; it says why, and repeats neither.
 */
export function createClient(options: ClientOptions): Client {
  const url = options.url.replace(/\/+$/, "");
  // As with the setting STITCH_TOKEN, empty counts as not set.
  const token = options.token === "" ? null : (options.token ?? null);
  const wrong = { url: wrongUrl(url), token: token === null ? null : wrongToken(token) };
  if (wrong.url !== null) throw new TypeError(`url: ${wrong.url}`);
  if (wrong.token !== null) throw new TypeError(`token: ${wrong.token}`);
  return callsOver({
    url,
    token,
    fetch: options.fetch ?? globalThis.fetch,
  });
}

/** Long, because it is a list: one entry for each route of the API. */
function callsOver(transport: Transport): Client {
  // Hardly checked (`request`): the API's own tests check that it answers as http.md says, with these types.
  const send = async <T>(asked: Request): Promise<T> => (await request(transport, asked)).body as T;
  const read = <T>(asked: Request): Promise<T> => withRetries(() => send<T>(asked), asked.signal);
  const get = <T>(path: string, query: Query = {}, call: Call = {}): Promise<T> =>
    read<T>({ path, query, signal: call.signal });
  const remove = async (path: string, { signal }: Call = {}): Promise<void> => {
    await request(transport, { method: "DELETE", path, answer: "nothing", signal });
  };
  const list = <T>(
    path: string,
    { limit, cursor, ...filter }: Page = {},
    call?: Call,
    { most = Number.POSITIVE_INFINITY, joined }: { readonly most?: number; readonly joined?: "backwards" } = {},
  ): Promise<ListResource<T>> =>
    readPages(
      { limit: limit ?? most, cursor },
      (page) => read({ path, query: { ...filter, ...page }, answer: "list", signal: call?.signal }),
      joined,
    );
  const keyHeader = (key: string | undefined): Request["headers"] =>
    key === undefined ? {} : { "idempotency-key": key };
  const of = (path: string, id: string): string => `${path}/${encodeURIComponent(id)}`;
  const lookAtJob = (id: string, { waitMs, signal }: Call & { readonly waitMs: number }): Promise<JobResource> =>
    send({ path: of("/v1/jobs", id), query: { waitMs }, signal });
  const actOnJob = (id: string, act: string, call: Call = {}, body?: object): Promise<JobResource> =>
    send({ method: "POST", path: `${of("/v1/jobs", id)}/${act}`, body, signal: call.signal });

  return {
    url: transport.url,
    cluster: (call) => get("/v1/cluster", {}, call),
    nodes: (filter, call) => list("/v1/nodes", filter, call),
    node: (id, call) => get(of("/v1/nodes", id), {}, call),
    forgetNode: (id, call) => remove(of("/v1/nodes", id), call),
    changeMode: ({ mode, preferred, lease }, call = {}) =>
      send({
        method: "POST",
        path: "/v1/masters/mode",
        body: { mode, ...(preferred === null ? {} : { preferred }), ...(lease === null ? {} : { lease }) },
        signal: call.signal,
      }),
    adoptNode: (id, call = {}) => send({ method: "POST", path: `${of("/v1/nodes", id)}/adopt`, signal: call.signal }),
    stitches: (filter, call) => list("/v1/stitches", filter, call),
    stitch: (id, call) => get(of("/v1/stitches", id), {}, call),
    logs: (id, { tail, signal } = {}) =>
      read({ path: `${of("/v1/stitches", id)}/logs`, query: { tail }, answer: "list", signal }),
    followLogs: async function* (id, { tail, ...call } = {}) {
      for await (const { data } of follow(transport, { path: `${of("/v1/stitches", id)}/logs`, query: { tail } }, call))
        yield parse(transport.url, data, null) as LogLineResource;
    },
    groups: (page, call) => list("/v1/groups", page, call),
    group: (name, call) => get(of("/v1/groups", name), {}, call),
    events: (filter = {}, call) =>
      filter.since === undefined
        ? list("/v1/events", filter, call, { most: SOME, joined: "backwards" })
        : list("/v1/events", filter, call),
    followEvents: (follow = {}) => followEvents(transport, follow),
    command: async (body, { waitMs, idempotencyKey, signal } = {}) => {
      const answer = await request(transport, {
        method: "POST",
        path: "/v1/commands",
        query: { waitMs },
        body,
        headers: keyHeader(idempotencyKey),
        signal,
      });
      return { job: answer.body as JobResource, replayed: answer.headers.get("idempotent-replayed") === "true" };
    },
    plan: (body, call = {}) =>
      read({ method: "POST", path: "/v1/commands", body: { ...body, dryRun: true }, signal: call.signal }),
    jobs: (filter, call) => list("/v1/jobs", filter, call, { most: SOME }),
    job: (id, { waitMs, ...call } = {}) =>
      waitMs === undefined ? get(of("/v1/jobs", id), {}, call) : lookAtJob(id, { waitMs, ...call }),
    waitForJob: (job, waiting) => waitForJob(lookAtJob, job, waiting),
    steps: (id, filter, call) => list(`${of("/v1/jobs", id)}/steps`, filter, call),
    cancelJob: (id, call) => actOnJob(id, "cancel", call),
    retryJob: (id, call) => actOnJob(id, "retry", call),
    rollbackJob: (id, { reason, ...call } = {}) =>
      actOnJob(id, "rollback", call, reason === undefined ? undefined : { reason }),
    send: (body, { idempotencyKey, signal } = {}) =>
      send({
        method: "POST",
        path: "/v1/messages",
        body,
        headers: keyHeader(idempotencyKey),
        waitMs: (body.expect ?? "none") === "none" ? 0 : (body.timeoutMs ?? SEND_WAIT_MS),
        signal,
      }),
    deadLetters: (filter, call) => list("/v1/dead-letters", filter, call, { most: SOME }),
    redriveDeadLetter: (id, call = {}) =>
      send({ method: "POST", path: `${of("/v1/dead-letters", id)}/redrive`, signal: call.signal }),
    deleteDeadLetter: (id, call) => remove(of("/v1/dead-letters", id), call),
  };
}
