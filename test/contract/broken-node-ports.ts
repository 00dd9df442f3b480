// What Masters are to a node worker, each breaking one promise: the clauses must refuse them.
import type { NodePorts } from "../../src/master/ports.ts";
import type { NODE_CLAUSES } from "./node-clauses.ts";

export type BrokenNodePorts = {
  readonly how: string;
  /** The clause that must refuse it. */
  readonly breaks: keyof typeof NODE_CLAUSES;
  readonly make: (sound: NodePorts) => NodePorts;
};

const withPublishing = (sound: NodePorts, over: Partial<NodePorts["publishing"]>): NodePorts => ({
  ...sound,
  publishing: { ...sound.publishing, ...over },
});
const withOrders = (sound: NodePorts, over: Partial<NodePorts["orders"]>): NodePorts => ({
  ...sound,
  orders: { ...sound.orders, ...over },
});

export const BROKEN_NODE_PORTS: readonly BrokenNodePorts[] = [
  {
    how: "gives an id away under a lease that runs",
    breaks: "oneWorkerForOneId",
    make: (sound) => {
      let last = "";
      return withPublishing(sound, {
        register: (as) => {
          const answer = sound.publishing.register({ ...as, formerSessions: [last] });
          last = as.session;
          return answer;
        },
      });
    },
  },
  {
    how: "takes what a former life says for what the present one says",
    breaks: "formerLivesAreRefused",
    make: (sound) => {
      let newest = 0;
      let last = 0;
      return withPublishing(sound, {
        publish: (changes, status, receives, as) => {
          newest = Math.max(newest, as.incarnation);
          const asNewest = { ...as, incarnation: newest, draw: () => (last += 1) };
          return sound.publishing.publish(changes, status, receives, asNewest);
        },
      });
    },
  },
  {
    how: "says that it published what it did not",
    breaks: "whatIsPublishedIsFound",
    make: (sound) =>
      withPublishing(sound, {
        publish: (_, status, receives, as) => sound.publishing.publish([], status, receives, as),
      }),
  },
  {
    how: "takes what a node offers for what is stored",
    breaks: "onlyWhatIsAssignedIsCopied",
    make: (sound) => {
      const offered = new Map<string, string>();
      return {
        ...withPublishing(sound, {
          offerSpecs: async (texts) => {
            for (const [hash, text] of texts) offered.set(hash, text);
          },
        }),
        orders: {
          ...sound.orders,
          spec: async (hash, onUnreadable) => offered.get(hash) ?? sound.orders.spec(hash, onUnreadable),
        },
      };
    },
  },
  {
    how: "assigns to a node whatever is asked for",
    breaks: "onlyWhatIsAssignedIsCopied",
    make: (sound) =>
      withOrders(sound, {
        assigned: async (stitches, onUnreadable) => {
          const found = await sound.orders.assigned(stitches, onUnreadable);
          const any = [...found.values()].flat();
          return new Map(stitches.map((stitch) => [stitch, any]));
        },
      }),
  },
  {
    how: "lets a life that is over leave for the next one",
    breaks: "leavingIsNotDying",
    make: (sound) =>
      withPublishing(sound, {
        leave: ({ incarnation }) => sound.publishing.leave({ session: "two", incarnation: Math.max(incarnation, 2) }),
      }),
  },
  {
    how: "takes outcomes from whoever claimed first",
    breaks: "taskIsTheLastClaimants",
    make: (sound) => {
      let last = 0;
      return withOrders(sound, {
        claim: (job, task, incarnation, election) => {
          last = incarnation;
          return sound.orders.claim(job, task, incarnation, election);
        },
        tell: (job, task, _, outcomes, ended, election) =>
          sound.orders.tell(job, task, last, outcomes, ended, election),
      });
    },
  },
  {
    how: "hands out tasks that were cancelled",
    breaks: "whatIsOverIsNotClaimed",
    make: (sound) => withOrders(sound, { claim: () => Promise.resolve("ok") }),
  },
];
