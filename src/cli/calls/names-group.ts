/** Does what was typed name a group? A dot says so; a bare application needs `--group`. */
export function namesGroup(target: string, flags: { readonly group?: true }): boolean {
  return flags.group === true || target.includes(".");
}
