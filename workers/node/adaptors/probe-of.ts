import type { HealthCheck } from "../../../src/domain/stitch/check.ts";
import { execProbe, type ExecProbeOptions } from "./exec-probe.ts";
import { httpProbe } from "./http-probe.ts";
import type { Probe } from "./probe.ts";
import { tcpProbe } from "./tcp-probe.ts";

/** How a check looks at a program. */
export function probeOf({ http, tcp, exec = [""] }: HealthCheck, options: ExecProbeOptions): Probe {
  if (http !== undefined) return httpProbe(http);
  return tcp !== undefined ? tcpProbe(tcp.port) : execProbe(exec, options);
}
