import assert from "node:assert/strict";
import { test } from "node:test";
import { errorCode, errorText } from "../../src/error-text.ts";

test("returns the message of an error, and any other value as text", () => {
  assert.equal(errorText(new TypeError("no such thing")), "no such thing");
  assert.equal(errorText("text"), "text");
  assert.equal(errorText(undefined), "undefined");
  assert.equal(errorText({ message: "of no error" }), "[object Object]");
});

test("returns the code of an error, and null if there is none or it is no Error", () => {
  assert.equal(errorCode(Object.assign(new Error("gone"), { code: "ENOENT" })), "ENOENT");
  assert.equal(errorCode(new Error("plain")), null);
  assert.equal(errorCode({ code: "ENOENT" }), null);
  assert.equal(errorCode(null), null);
});
