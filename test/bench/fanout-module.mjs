// The stitches of the fanout benchmark: what is measured is the way to them and back.
export function start() {}
export function stop() {}
