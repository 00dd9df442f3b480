// The stitches of the fanout benchmark. They do nothing: the benchmark measures the way to them and back.
export function start() {}
export function stop() {}
