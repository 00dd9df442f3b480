import type { Keys } from "./keys.ts";

/** The type of a key, as Redis's `TYPE` names it. */
export type KeyType = "hash" | "string" | "stream" | "zset" | "set" | "list";

/** One row of the table: what is documented about a key. */
export type KeyRow = {
  /** The parts that the key's name is built from, as the table shows them. */
  readonly of: readonly string[];
  readonly types: readonly KeyType[];
  readonly holds: string;
  readonly writer: string;
  /** How large the key can become, or when it is deleted or expires. */
  readonly bound: string;
};

const WITH_NODE = "goes when the node is forgotten";
const POINTERS = "one for each stitch";

/** Every key, by the name of the method in `Keys` that builds it. The table in docs/operations.md is generated from this. */
export const LAYOUT: {
  readonly [Name in Exclude<
    keyof Keys,
    "cluster" | "node" | "nodeQueue" | "mastersShare" | "mastersQueue" | "replyChannel" | "jobChannel"
  >]: KeyRow;
} = {
  format: {
    of: [],
    types: ["string"],
    holds: "the format of what is stored",
    writer: "whoever finds none",
    bound: "one number",
  },
  nodes: {
    of: [],
    types: ["zset"],
    holds: "node → end of its lease; minus the time it left. Where to look, never the truth",
    writer: "node",
    bound: `one for each node; ${WITH_NODE}`,
  },
  nodeIds: {
    of: [],
    types: ["zset"],
    holds: "node ids with equal scores: read in the order of ids, page by page",
    writer: "node",
    bound: `one for each node; ${WITH_NODE}`,
  },
  nodeMeta: {
    of: ["node"],
    types: ["hash"],
    holds: "incarnation, session, lease, beats, facts, status; what Masters ordered, copied",
    writer: "node; Masters",
    bound: `15 fields; ${WITH_NODE}`,
  },
  nodeStatus: {
    of: ["node"],
    types: ["hash"],
    holds: "load",
    writer: "node",
    bound: "the lease",
  },
  nodeStitches: {
    of: ["node"],
    types: ["hash"],
    holds: "stitch → record",
    writer: "node",
    bound: `one for each stitch; ${WITH_NODE}`,
  },
  nodeRemoved: {
    of: ["node"],
    types: ["hash"],
    holds: "stitch → what is left of a removed one",
    writer: "node",
    bound: `24 h for each; ${WITH_NODE}`,
  },
  nodeUsage: {
    of: ["node"],
    types: ["hash"],
    holds: "stitch → CPU and memory its processes use",
    writer: "node",
    bound: "30 s",
  },
  nodeOrders: {
    of: ["node"],
    types: ["hash"],
    holds: "eligibility; labels by command",
    writer: "Masters",
    bound: `6 fields, 100 labels; ${WITH_NODE}`,
  },
  nodeSpecs: {
    of: ["node"],
    types: ["hash"],
    holds:
      "SHA-256 → text of a spec that the node has, and that is not in the store. Nobody goes by it until the node is adopted",
    writer: "node",
    bound: `one for each spec that its stitches have; ${WITH_NODE}`,
  },
  nodeAssigned: {
    of: ["node"],
    types: ["hash"],
    holds:
      "stitch → what Masters have assigned under its id: spec, full group, placement, revisions; and whether that is over",
    writer: "Masters",
    bound: "2 days after all of a stitch is over; 10 days after the node is forgotten",
  },
  nodeGone: {
    of: ["node"],
    types: ["hash"],
    holds: "stitch → what Masters have decided about it while the node was away; and when the node was forgotten",
    writer: "Masters",
    bound: "7 days for each, once the node is back; 7 days after the node is forgotten",
  },
  nodeInbox: {
    of: ["node"],
    types: ["stream"],
    holds: "questions to the node and messages to its stitches, acknowledged by it",
    writer: "senders; node",
    bound: `10,000 entries, of these 8000 messages and 32 MiB; ${WITH_NODE}`,
  },
  nodeInboxLoad: {
    of: ["node"],
    types: ["hash"],
    holds: "whose the inbox is, and how much of it messages take, in all and for each stitch",
    writer: "senders; node",
    bound: `two fields for each stitch for which messages wait; ${WITH_NODE}`,
  },
  sentMark: {
    of: ["node", "message"],
    types: ["string"],
    holds: "the message that was sent with an idempotency key is in the inbox, or was",
    writer: "senders",
    bound: "10 min",
  },
  nodeDeadLetters: {
    of: ["node"],
    types: ["stream"],
    holds: "messages that could not be delivered",
    writer: "node; senders; Masters",
    bound: "10,000, 64 MiB and 7 days, an eighth of it for each sender",
  },
  nodeDeadLetterIds: {
    of: ["node"],
    types: ["zset"],
    holds: "each dead letter twice, among all and among its sender's, by age",
    writer: "as the dead letters",
    bound: "with the dead letters",
  },
  nodeDeadLetterBytes: {
    of: ["node"],
    types: ["hash"],
    holds: "how many bytes dead letters take, in all and for each sender",
    writer: "as the dead letters",
    bound: "with the dead letters",
  },
  deadLetterNodes: {
    of: [],
    types: ["set"],
    holds: "nodes that have dead letters. Pointers",
    writer: "as the dead letters",
    bound: "one for each node that has some",
  },
  reply: {
    of: ["reply"],
    types: ["string", "stream", "list"],
    holds: "what a node answers to one question, or what became of a message",
    writer: "node; whoever asked",
    bound: "10 s for an answer, 90 s for receipts; a stream has 16 batches of 400 KB and 9 s",
  },
  replyLease: {
    of: ["reply"],
    types: ["string"],
    holds: "is there while somebody reads the stream of answers",
    writer: "whoever asked",
    bound: "9 s",
  },
  route: {
    of: ["stitch"],
    types: ["hash"],
    holds: "node → group of the stitch with this bare id there. Pointers",
    writer: "node; Masters",
    bound: POINTERS,
  },
  group: {
    of: ["group"],
    types: ["set"],
    holds: "the full ids in a full group. Pointers",
    writer: "node; Masters",
    bound: POINTERS,
  },
  receivers: {
    of: ["group"],
    types: ["set"],
    holds: "the full ids in a full group that take messages. Pointers",
    writer: "node; Masters",
    bound: POINTERS,
  },
  receiverNodes: {
    of: ["group"],
    types: ["set"],
    holds: "the nodes that have such a stitch. Pointers",
    writer: "node; Masters",
    bound: "one for each node that has one",
  },
  application: {
    of: ["application"],
    types: ["set"],
    holds: "`component.version` of an application. Pointers",
    writer: "node; Masters",
    bound: "one for each version with a stitch, and for as many as have a template",
  },
  applications: {
    of: [],
    types: ["set"],
    holds: "applications. Pointers",
    writer: "node; Masters",
    bound: "one for each application with such a version",
  },
  groupTemplate: {
    of: ["group"],
    types: ["hash"],
    holds: "what the full group's last create asked for, with its revision: it is what will be run",
    writer: "Masters",
    bound: "of the versions of a component without a stitch the newest 10, and 30 days after the last stitch",
  },
  spec: {
    of: ["SHA-256"],
    types: ["string"],
    holds: "the text of a spec, once, whatever refers to it: it is what will be run",
    writer: "Masters",
    bound: "8 days, from the last day on which a stitch or a group had it",
  },
  sequence: {
    of: ["component"],
    types: ["string"],
    holds: "the last number generated for stitch ids",
    writer: "Masters",
    bound: "30 days after the component's last stitch",
  },
  job: {
    of: ["job"],
    types: ["hash"],
    holds: "the job's record and what Masters note beside it; in the mode `leader`, the requests for it",
    writer: "Masters",
    bound:
      "`STITCH_JOB_RETENTION_MS` after its end; a day where it is a draft that was given up; some minutes where it is only a request",
  },
  jobOutcomes: {
    of: ["job", "runner"],
    types: ["hash"],
    holds: "claims and outcomes of one node, or of Masters",
    writer: "node; Masters",
    bound: "with the job; a day where there is none",
  },
  openJobs: {
    of: [],
    types: ["zset"],
    holds: "job that is not closed → when to look at it again",
    writer: "Masters",
    bound: "one for each open job; 10 min for one that has no record",
  },
  dueJobs: {
    of: [],
    types: ["zset"],
    holds: "job of which something has ended → since when. Hints: one Master takes each",
    writer: "node; Masters",
    bound: "10,000, and 1 min",
  },
  recentJobs: {
    of: [],
    types: ["zset"],
    holds: "job → when it was accepted. For lists",
    writer: "Masters",
    bound: "one for each job that is there; cleared every 30 s",
  },
  busy: {
    of: [],
    types: ["hash"],
    holds: "open job of many steps, or one that is about to be → what it works on, and for which drafts",
    writer: "Masters",
    bound: "one for each open job of many steps",
  },
  message: {
    of: ["message"],
    types: ["string"],
    holds: "what became of the message that was sent with an idempotency key",
    writer: "Masters",
    bound: "10 min",
  },
  revision: {
    of: [],
    types: ["string"],
    holds: "the revision of the last accepted command",
    writer: "Masters; a node raises it",
    bound: "one number",
  },
  events: {
    of: [],
    types: ["stream"],
    holds: "what happened",
    writer: "all",
    bound: "about 10,000",
  },
  masters: {
    of: [],
    types: ["zset"],
    holds: "master → when it was last seen",
    writer: "Masters",
    bound: "1 min for each",
  },
  masterVersions: {
    of: [],
    types: ["hash"],
    holds: "master → its version",
    writer: "Masters",
    bound: "1 min for each",
  },
  masterMode: {
    of: [],
    types: ["hash"],
    holds:
      "the mode of the Masters, the preferred one, since when; where the leader's lease is, the epoch; an id of the cluster",
    writer: "Masters",
    bound: "7 fields",
  },
  leaderLease: {
    of: [],
    types: ["hash"],
    holds: "the leader: its election, until when, and which Redis granted it",
    writer: "Masters",
    bound: "7 fields",
  },
  housekeeping: {
    of: ["chore"],
    types: ["string"],
    holds: "the Master that does this chore",
    writer: "Masters",
    bound: "until the chore is due again: at most a day",
  },
};
