import * as z from "zod";
import { stitchSpec } from "../domain/stitch/spec.ts";
import { capacityResource } from "./capacity.ts";
import { clusterResource, masterModeResource } from "./cluster.ts";
import { eventResource } from "./event.ts";
import { groupResource } from "./group.ts";
import {
  failureResource,
  jobResource,
  listedJobResource,
  listedStepResource,
  stepResource,
  taskResource,
} from "./job.ts";
import { listOf } from "./list.ts";
import { logLineResource } from "./log-line.ts";
import { deadLetterResource, deliveryResource, sentResource } from "./message.ts";
import { adoptedResource, nodeResource } from "./node.ts";
import { planResource } from "./plan.ts";
import { probeResource } from "./probe.ts";
import { problemResource } from "./problem.ts";
import { refusalResource } from "./refusal.ts";
import { listedStitchResource, stitchResource } from "./stitch.ts";

/** The schemas of all answers, and the schemas that they are made of, by name in the OpenAPI document. */
export const COMPONENTS = {
  Capacity: capacityResource,
  Cluster: clusterResource,
  Node: nodeResource,
  NodeList: listOf(nodeResource),
  Spec: stitchSpec,
  Adopted: adoptedResource,
  MasterMode: masterModeResource,
  Stitch: stitchResource,
  ListedStitch: listedStitchResource,
  StitchList: listOf(listedStitchResource),
  LogLine: logLineResource,
  LogLineList: listOf(logLineResource),
  Group: groupResource,
  GroupList: listOf(groupResource),
  Failure: failureResource,
  Step: stepResource,
  ListedStep: listedStepResource,
  StepList: listOf(listedStepResource),
  Task: taskResource,
  ListedJob: listedJobResource,
  JobList: listOf(listedJobResource),
  Job: jobResource,
  Refusal: refusalResource,
  Plan: planResource,
  JobOrPlan: z.union([jobResource, planResource]),
  Event: eventResource,
  EventList: listOf(eventResource),
  Delivery: deliveryResource,
  Sent: sentResource,
  DeadLetter: deadLetterResource,
  DeadLetterList: listOf(deadLetterResource),
  Status: probeResource,
  Document: z.looseObject({ openapi: z.string() }),
  Problem: problemResource,
} as const satisfies Readonly<Record<string, z.ZodType>>;
