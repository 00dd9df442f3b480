import { RequestError } from "../domain/errors.ts";
import { clientOf } from "./access.ts";
import type { Access, ApiContext } from "./deps.ts";

/** The share of the places that one client may hold; the rest is left for others. */
const SHARE = 1 / 2;

/** Places for requests that hold resources for long: at most `max` at once, half of them for one client. */
export class Places {
  readonly #what: string;
  readonly #max: number;
  readonly #access: Access;
  readonly #taken = new Map<string, number>();
  #total = 0;

  /** @param what the places are for, as in "200 streams". */
  constructor(what: string, max: number, access: Access) {
    this.#what = what;
    this.#max = max;
    this.#access = access;
  }

  /** Takes a place. @returns a function that gives the place back, once. @throws RequestError `rate_limited`. */
  async take(c: ApiContext): Promise<() => void> {
    const client = await clientOf(c, this.#access);
    const own = this.#taken.get(client) ?? 0;
    const share = Math.ceil(this.#max * SHARE);
    if (this.#total >= this.#max) throw this.#full(`This API has ${this.#max}`);
    if (own >= share) throw this.#full(`You have ${share}`);
    this.#total += 1;
    this.#taken.set(client, own + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#total -= 1;
      const left = (this.#taken.get(client) ?? 1) - 1;
      if (left === 0) this.#taken.delete(client);
      else this.#taken.set(client, left);
    };
  }

  #full(holds: string): RequestError {
    return new RequestError("rate_limited", `${holds} ${this.#what} open; end one, or ask another API.`);
  }
}
