import * as z from "zod";
import { sizeFirst } from "../json/size-first.ts";

const noNul = (text: string) => !text.includes("\0");

/** A text that a program can be given, as an argument or in a variable. */
export const argument = z.string().max(8192).refine(noNul, "must not contain a NUL character");

/** A program and its arguments, which are started without a shell. */
export const words = sizeFirst(
  256,
  "arguments",
  z.tuple([argument.min(1)], argument, { error: 'must be a list of words, such as ["sleep", "60"]' }),
);
