/** Is the typed name a group? A dot means a group; a bare application needs `--group`. */
export function namesGroup(target: string, flags: { readonly group?: true }): boolean {
  return flags.group === true || target.includes(".");
}
