/** The name of each queue in BullMQ: of every node's, and of the Masters'. */
export const QUEUE = "commands";

/**
 * Builds every Redis key of a cluster; no other file does. What each key holds, who writes it and what bounds it: layout.ts.
 * Braces are Redis Cluster hash tags: all keys that one script uses share a tag; different nodes and jobs spread over slots.
 */
export class Keys {
  readonly cluster: string;
  readonly #root: string;

  constructor(cluster: string) {
    this.cluster = cluster;
    this.#root = `cs:${cluster}`;
  }

  /** Prefix of all keys that belong to one node, including BullMQ's keys of its queue. */
  node(id: string): string {
    return `${this.#root}:{node:${id}}`;
  }
  nodeMeta(id: string): string {
    return `${this.node(id)}:meta`;
  }
  nodeStatus(id: string): string {
    return `${this.node(id)}:status`;
  }
  nodeStitches(id: string): string {
    return `${this.node(id)}:stitches`;
  }
  nodeRemoved(id: string): string {
    return `${this.node(id)}:removed`;
  }
  nodeUsage(id: string): string {
    return `${this.node(id)}:usage`;
  }
  nodeSpecs(id: string): string {
    return `${this.node(id)}:specs`;
  }
  /** Prefix of the keys that Masters write about a node: in the node's slot, but not among the keys that the node may write. */
  #ofMasters(id: string): string {
    return `${this.#root}:masters:{node:${id}}`;
  }
  nodeOrders(id: string): string {
    return `${this.#ofMasters(id)}:orders`;
  }
  nodeAssigned(id: string): string {
    return `${this.#ofMasters(id)}:assigned`;
  }
  nodeGone(id: string): string {
    return `${this.#ofMasters(id)}:gone`;
  }
  nodeInbox(id: string): string {
    return `${this.node(id)}:inbox`;
  }
  nodeInboxLoad(id: string): string {
    return `${this.node(id)}:inbox:load`;
  }
  sentMark(id: string, message: string): string {
    return `${this.node(id)}:sent:${message}`;
  }
  nodeDeadLetters(id: string): string {
    return `${this.node(id)}:dead-letters`;
  }
  nodeDeadLetterIds(id: string): string {
    return `${this.nodeDeadLetters(id)}:ids`;
  }
  nodeDeadLetterBytes(id: string): string {
    return `${this.nodeDeadLetters(id)}:bytes`;
  }
  /** One of BullMQ's keys of the node's queue (see `QUEUE_LAYOUT`). */
  nodeQueue(id: string, part: string): string {
    return `${this.node(id)}:${QUEUE}:${part}`;
  }

  reply(id: string): string {
    return `${this.#root}:{reply:${id}}`;
  }
  replyLease(id: string): string {
    return `${this.reply(id)}:lease`;
  }
  /** Pub/sub channel of one asking process. A hint here has the id of a reply that has grown. */
  replyChannel(asker: string): string {
    return `${this.#root}:replies:${asker}`;
  }

  get format(): string {
    return `${this.#root}:format`;
  }
  get nodes(): string {
    return `${this.#root}:nodes`;
  }
  get nodeIds(): string {
    return `${this.#root}:nodes:ids`;
  }

  route(stitch: string): string {
    return `${this.#root}:route:${stitch}`;
  }
  group(fullGroup: string): string {
    return `${this.#root}:group:${fullGroup}`;
  }
  receivers(fullGroup: string): string {
    return `${this.group(fullGroup)}:receivers`;
  }
  receiverNodes(fullGroup: string): string {
    return `${this.group(fullGroup)}:nodes`;
  }
  groupTemplate(fullGroup: string): string {
    return `${this.#root}:template:${fullGroup}`;
  }
  spec(hash: string): string {
    return `${this.#root}:spec:${hash}`;
  }
  get busy(): string {
    return `${this.mastersShare}:busy`;
  }
  get deadLetterNodes(): string {
    return `${this.#root}:dead-letters`;
  }
  message(id: string): string {
    return `${this.#root}:{message:${id}}`;
  }
  application(application: string): string {
    return `${this.#root}:groups:${application}`;
  }
  get applications(): string {
    return `${this.#root}:groups`;
  }

  job(id: string): string {
    return `${this.#root}:{job:${id}}`;
  }
  jobOutcomes(id: string, runner: string): string {
    return `${this.job(id)}:out:${runner}`;
  }
  /** Pub/sub channel of a job. A hint here means that a task of the job has ended. */
  jobChannel(id: string): string {
    return `${this.job(id)}:ended`;
  }
  get openJobs(): string {
    return `${this.#root}:jobs:open`;
  }
  get dueJobs(): string {
    return `${this.#root}:jobs:due`;
  }
  get recentJobs(): string {
    return `${this.#root}:jobs:recent`;
  }

  get revision(): string {
    return `${this.mastersShare}:revision`;
  }
  sequence(idBase: string): string {
    return `${this.#root}:seq:${idBase}`;
  }
  get events(): string {
    return `${this.#root}:events`;
  }
  get masters(): string {
    return `${this.mastersShare}:seen`;
  }
  get masterVersions(): string {
    return `${this.mastersShare}:versions`;
  }
  get masterMode(): string {
    return `${this.mastersShare}:mode`;
  }
  get leaderLease(): string {
    return `${this.mastersShare}:lease`;
  }
  /** One of BullMQ's keys of the masters' queue (see `QUEUE_LAYOUT`). */
  mastersQueue(part: string): string {
    return `${this.mastersShare}:${QUEUE}:${part}`;
  }
  /**
   * Prefix of the keys that Masters share, including BullMQ's keys of their queue: in one slot, because a script compares the mode
   * with each write.
   */
  get mastersShare(): string {
    return `${this.#root}:{masters}`;
  }
  housekeeping(chore: string): string {
    return `${this.#root}:housekeeping:${chore}`;
  }
}

/** What stands before and after the id in a key that `keyOf` builds, for a script on a single Redis that builds such keys itself. */
export function aroundId(keyOf: (id: string) => string): [before: string, after: string] {
  // No name has a space.
  const [before = "", after = ""] = keyOf(" ").split(" ");
  return [before, after];
}

/** The runner of tasks that a Master carries out itself; no node can have this id. */
export const MASTER_RUNNER = "_master";
