import assert from "node:assert/strict";
import { test } from "node:test";
import { errorCode, errorText } from "../../src/error-text.ts";

test("of an error its message is said, of anything else the thing itself", () => {
  assert.equal(errorText(new TypeError("no such thing")), "no such thing");
  assert.equal(errorText("text"), "text");
  assert.equal(errorText(undefined), "undefined");
  assert.equal(errorText({ message: "of no error" }), "[object Object]");
});

test("an error's code is what it carries; what is no error has none", () => {
  assert.equal(errorCode(Object.assign(new Error("gone"), { code: "ENOENT" })), "ENOENT");
  assert.equal(errorCode(new Error("plain")), null);
  assert.equal(errorCode({ code: "ENOENT" }), null);
  assert.equal(errorCode(null), null);
});
