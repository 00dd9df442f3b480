/** `depth`: how deep lists and objects are nested. `tokens`: strings, opening brackets, commas and colons. */
type JsonSize = { readonly depth: number; readonly tokens: number };

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * Measures a JSON text without parsing it: two million elements are quick to count, and slow to parse and check.
 * Stops as soon as one limit in `most` is passed, and reads nothing beyond. Text that is not JSON is counted, too.
 */
export function jsonSize(text: string, most: JsonSize): JsonSize {
  let tokens = 0;
  let depth = 0;
  let deepest = 0;
  for (let at = 0; at < text.length && tokens <= most.tokens && deepest <= most.depth; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        tokens += 1;
        at = endOfString(text, at);
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        tokens += 1;
        depth += 1;
        deepest = Math.max(deepest, depth);
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        depth -= 1;
        break;
      case COMMA:
      case COLON:
        tokens += 1;
        break;
    }
  }
  return { depth: deepest, tokens };
}

/** The index of the end of the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) break;
    if (code === BACKSLASH) at += 1;
  }
  return at;
}
