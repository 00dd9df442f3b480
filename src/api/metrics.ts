import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { within } from "../bounded-wait.ts";
import type { ClusterState } from "../master/ports.ts";
import type { Answered, ApiDeps } from "./deps.ts";

/** A scrape is answered without the cluster's gauges if Redis takes longer than this. */
const CLUSTER_MS = 2000;

/** Metrics of one app in a registry of its own; the cluster's gauges are read from Redis at each scrape. */
type ApiMetrics = NonNullable<ApiDeps["metrics"]> & { onAnswer(answered: Answered): void };

/** @param lostLogLines how many lines of its log the process could not write. */
export function createMetrics(
  state: Pick<ClusterState, "cluster">,
  lostLogLines: () => number,
  onError: (error: unknown) => void,
): ApiMetrics {
  const registers = [new Registry()];
  const requests = new Counter({
    name: "crossstitch_http_requests_total",
    help: "Requests answered, by method, route and status",
    labelNames: ["method", "route", "status"],
    registers,
  });
  const durations = new Histogram({
    name: "crossstitch_http_request_duration_seconds",
    help: "Time until the answer began, the wait asked for included",
    labelNames: ["method", "route"],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 60],
    registers,
  });
  new Counter({
    name: "crossstitch_log_lines_lost_total",
    help: "Lines of this process's log that could not be written",
    registers,
    collect() {
      this.reset();
      this.inc(lostLogLines());
    },
  });
  const readCluster = clusterGauges(state, registers, onError);
  const registry = registers[0] ?? new Registry();
  return {
    onAnswer: ({ method, route, status, durationMs }) => {
      requests.inc({ method, route, status });
      durations.observe({ method, route }, durationMs / 1000);
    },
    render: async () => {
      await readCluster();
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}

/** @returns a function that reads the cluster's gauges; it never rejects. */
function clusterGauges(
  state: Pick<ClusterState, "cluster">,
  registers: Registry[],
  onError: (error: unknown) => void,
): () => Promise<void> {
  const gauge = (name: string, help: string, labelNames: string[]) => new Gauge({ name, help, labelNames, registers });
  const up = gauge("crossstitch_redis_up", "1 where Redis answered at this scrape", []);
  const nodes = gauge("crossstitch_nodes", "Nodes by liveness", ["liveness"]);
  const stitches = gauge("crossstitch_stitches", "Stitches by state", ["state"]);
  const openJobs = gauge("crossstitch_open_jobs", "Jobs that have not ended", []);

  return async () => {
    for (const one of [nodes, stitches, openJobs]) one.reset();
    try {
      const cluster = await within(CLUSTER_MS, state.cluster(), `Redis did not answer within ${CLUSTER_MS} ms`);
      for (const [liveness, count] of Object.entries(cluster.nodes)) nodes.set({ liveness }, count);
      for (const [state, count] of Object.entries(cluster.stitches)) stitches.set({ state }, count);
      openJobs.set(cluster.openJobs);
      up.set(1);
    } catch (error) {
      // The operator needs the other metrics most at this time. No value is better than an old one.
      openJobs.remove();
      up.set(0);
      onError(error);
    }
  };
}
