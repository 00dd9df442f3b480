import * as z from "zod";

const PART = /^[A-Za-z0-9_-]{1,63}$/;

/** `application[.component[.version]]`. Case-sensitive. */
export type Group = {
  readonly application: string;
  readonly component: string | null;
  readonly version: string | null;
};

/** A group a stitch can belong to: all three parts. */
type FullGroup = { readonly application: string; readonly component: string; readonly version: string };

/** @returns null if `text` is not a group. */
export function parseGroup(text: string): Group | null {
  // Splits into at most 4 parts, one more than allowed: a text of a million dots is not split completely.
  const parts = text.split(".", 4);
  if (parts.length > 3 || !parts.every((part) => PART.test(part))) return null;
  return { application: parts[0] ?? "", component: parts[1] ?? null, version: parts[2] ?? null };
}

/** @returns null if `text` is not a group of three parts. */
export function parseFullGroup(text: string): FullGroup | null {
  const group = parseGroup(text);
  if (group?.component == null || group.version === null) return null;
  return { application: group.application, component: group.component, version: group.version };
}

export function formatGroup(group: Group): string {
  return [group.application, group.component, group.version].filter((part) => part !== null).join(".");
}

/** `application.component` of a full group. */
export const componentOf = (fullGroup: string): string => fullGroup.split(".").slice(0, 2).join(".");

/** Is `inner` the group `outer` or inside it, part by part? `shop` contains `shop.orders`, not `shopping`. */
export function groupContains(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(`${outer}.`);
}

/** The smallest group that contains all the groups; null if there is none. */
export function commonGroup(groups: readonly string[]): string | null {
  const [first = "", ...others] = groups;
  const parts = first.split(".");
  for (let length = parts.length; length > 0; length--) {
    const outer = parts.slice(0, length).join(".");
    if (outer !== "" && others.every((inner) => groupContains(outer, inner))) return outer;
  }
  return null;
}

const RULE = "each part 1 to 63 characters of A-Z, a-z, 0-9, _ and -";
export const groupName = z
  .string()
  .refine((text) => parseGroup(text) !== null, `a group is application[.component[.version]], ${RULE}`);
export const fullGroupName = z
  .string()
  .refine((text) => parseFullGroup(text) !== null, `a full group is application.component.version, ${RULE}`);
