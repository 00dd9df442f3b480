/**
 * Every Redis key of a cluster, built here and nowhere else. Braces are Redis Cluster hash tags: what one script touches
 * shares a tag; different nodes and jobs spread over slots.
 */
export class Keys {
  readonly cluster: string;
  readonly #root: string;

  constructor(cluster: string) {
    this.cluster = cluster;
    this.#root = `cs:${cluster}`;
  }

  /** Prefix of everything that belongs to one node, BullMQ's keys of its queue included. */
  node(id: string): string {
    return `${this.#root}:{node:${id}}`;
  }
  /** Hash: incarnation, session, lease, beats, facts, status. Written by the node; Masters copy what its heartbeat answers into it. */
  nodeMeta(id: string): string {
    return `${this.node(id)}:meta`;
  }
  /** Hash with the lease as its TTL: load. Written by the node. */
  nodeStatus(id: string): string {
    return `${this.node(id)}:status`;
  }
  /** Hash: stitch → record. Written by the node. */
  nodeStitches(id: string): string {
    return `${this.node(id)}:stitches`;
  }
  /** Hash: stitch → what is left of a removed one. Written by the node. */
  nodeRemoved(id: string): string {
    return `${this.node(id)}:removed`;
  }
  /** Hash with a TTL: stitch → CPU and memory its processes use. Written by the node. */
  nodeUsage(id: string): string {
    return `${this.node(id)}:usage`;
  }
  /** Hash: eligibility. Written by Masters. */
  nodeOrders(id: string): string {
    return `${this.node(id)}:orders`;
  }
  /**
   * Hash: stitch → what Masters have decided about it while the node was away; and when the node was forgotten. It outlives
   * the node. Written by Masters alone: in the node's slot, and not among the keys that the node may write.
   */
  nodeGone(id: string): string {
    return `${this.masters}:{node:${id}}:gone`;
  }
  /** Stream: questions to the node and messages to its stitches, acknowledged by it. Written by whoever asks or sends. */
  nodeInbox(id: string): string {
    return `${this.node(id)}:inbox`;
  }
  /** Hash: whose the inbox is, and how much of it messages take, in all and for each stitch. Written with the inbox. */
  nodeInboxLoad(id: string): string {
    return `${this.node(id)}:inbox:load`;
  }
  /** String, for a while: the message that was sent with an idempotency key is in the inbox, or was. Written with the inbox. */
  sentMark(id: string, message: string): string {
    return `${this.node(id)}:sent:${message}`;
  }
  /** Stream: messages that could not be delivered. Written by the node, and by whoever sends to it; Masters delete. */
  nodeDeadLetters(id: string): string {
    return `${this.node(id)}:dead-letters`;
  }

  /** String or stream, for a while: what a node answers to one question. Written by that node; the asker deletes it. */
  reply(id: string): string {
    return `${this.#root}:{reply:${id}}`;
  }
  /** Is there while somebody reads the stream of answers. Written by the reader. */
  replyLease(id: string): string {
    return `${this.reply(id)}:lease`;
  }
  /** Pub/sub channel of one asking process: the reply with this id has grown, look. A hint. */
  replyChannel(asker: string): string {
    return `${this.#root}:replies:${asker}`;
  }

  /** String: the format of what is stored (see format.ts). Written by every process that finds none. */
  get format(): string {
    return `${this.#root}:format`;
  }
  /** Sorted set: node → end of its lease; minus the time it left. Where to look, never the truth. */
  get nodes(): string {
    return `${this.#root}:nodes`;
  }
  /** Sorted set of node ids with equal scores: read in the order of ids, page by page. */
  get nodeIds(): string {
    return `${this.#root}:nodes:ids`;
  }

  /** Hash: node → group of the stitch with this bare id there. A pointer. */
  route(stitch: string): string {
    return `${this.#root}:route:${stitch}`;
  }
  /** Set of the full ids in a full group. Pointers. */
  group(fullGroup: string): string {
    return `${this.#root}:group:${fullGroup}`;
  }
  /** Set of the full ids in a full group that take messages. Pointers. */
  receivers(fullGroup: string): string {
    return `${this.group(fullGroup)}:receivers`;
  }
  /** Hash: what the group's last create asked for, with its revision. Written by Masters alone: it is what will be run. */
  groupTemplate(fullGroup: string): string {
    return `${this.#root}:template:${fullGroup}`;
  }
  /** Hash: open job of many steps, or one that is about to be → what it works on, and for which drafts. Written by Masters. */
  get busy(): string {
    return `${this.#root}:busy`;
  }
  /** Set of the nodes that have such a stitch. Pointers. */
  receiverNodes(fullGroup: string): string {
    return `${this.group(fullGroup)}:nodes`;
  }
  /** Set of nodes that have dead letters. Pointers. */
  get deadLetterNodes(): string {
    return `${this.#root}:dead-letters`;
  }
  /** String, for a while: what became of the message that was sent with an idempotency key. */
  message(id: string): string {
    return `${this.#root}:{message:${id}}`;
  }
  /** Set of `component.version` of an application. */
  application(application: string): string {
    return `${this.#root}:groups:${application}`;
  }
  /** Set of applications. */
  get applications(): string {
    return `${this.#root}:groups`;
  }

  /** Hash: the job's record and what Masters note beside it. */
  job(id: string): string {
    return `${this.#root}:{job:${id}}`;
  }
  /** Hash: claims and outcomes of one runner. Written by that node, or by Masters for `MASTER_RUNNER`. */
  jobOutcomes(id: string, runner: string): string {
    return `${this.job(id)}:out:${runner}`;
  }
  /** Pub/sub channel: a task of the job has ended, look again. A hint. */
  jobChannel(id: string): string {
    return `${this.job(id)}:ended`;
  }
  /** Sorted set: job that is not closed → when to look at it again. */
  get openJobs(): string {
    return `${this.#root}:jobs:open`;
  }
  /** Sorted set, for a while: job of which something has ended → since when. Written by whoever ends a task. A hint. */
  get dueJobs(): string {
    return `${this.#root}:jobs:due`;
  }
  /** Sorted set: job → when it was accepted. For lists. */
  get recentJobs(): string {
    return `${this.#root}:jobs:recent`;
  }

  /** Counter: the revision of the last accepted command. */
  get revision(): string {
    return `${this.#root}:revision`;
  }
  /** Counter: the last number generated for stitch ids with this base. */
  sequence(idBase: string): string {
    return `${this.#root}:seq:${idBase}`;
  }
  /** Stream, capped: what happened. */
  get events(): string {
    return `${this.#root}:events`;
  }
  /** Sorted set: master → when it was last seen tending. */
  get masters(): string {
    return `${this.#root}:masters`;
  }
}

/** The runner of tasks that a Master carries out itself; no node can have this id. */
export const MASTER_RUNNER = "_master";
