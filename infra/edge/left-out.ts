// What the API on the edge never calls. wrangler.toml puts it in the place of parts of libraries, so that they are not deployed.

export function leftOut(what: string): never {
  throw new Error(
    `${what} is not part of the API on the edge (infra/edge/left-out.ts); take its line out of wrangler.toml to have it.`,
  );
}

/** BullMQ makes one for an entry that repeats, and brings a parser of cron and a library of time zones for it. */
export class JobScheduler {
  constructor() {
    leftOut("BullMQ's JobScheduler");
  }
}

/** BullMQ calls these if it is given another client than ioredis. */
export const createNodeRedisClient = (): never => leftOut("BullMQ's adapter of node-redis");
export const createBunRedisClient = (): never => leftOut("BullMQ's adapter of Bun's client");

const writer = (): never => leftOut("zod's JSON Schema");

/** Zod calls what these return, and the writers below, to make a JSON Schema of a schema. Ours is made on Node: infra/openapi.ts. */
export const createToJSONSchemaMethod = () => writer;
export const createStandardJSONSchemaMethod = () => writer;
export {
  writer as aggregateChecks,
  writer as anyProcessor,
  writer as arrayProcessor,
  writer as bigintProcessor,
  writer as booleanProcessor,
  writer as catchProcessor,
  writer as customProcessor,
  writer as dateProcessor,
  writer as defaultProcessor,
  writer as enumProcessor,
  writer as fileProcessor,
  writer as functionProcessor,
  writer as intersectionProcessor,
  writer as lazyProcessor,
  writer as literalProcessor,
  writer as mapProcessor,
  writer as nanProcessor,
  writer as neverProcessor,
  writer as nonoptionalProcessor,
  writer as nullProcessor,
  writer as nullableProcessor,
  writer as numberProcessor,
  writer as objectProcessor,
  writer as optionalProcessor,
  writer as pipeProcessor,
  writer as prefaultProcessor,
  writer as promiseProcessor,
  writer as readonlyProcessor,
  writer as recordProcessor,
  writer as setProcessor,
  writer as stringProcessor,
  writer as successProcessor,
  writer as symbolProcessor,
  writer as templateLiteralProcessor,
  writer as toJSONSchema,
  writer as transformProcessor,
  writer as tupleProcessor,
  writer as undefinedProcessor,
  writer as unionProcessor,
  writer as unknownProcessor,
  writer as voidProcessor,
};
