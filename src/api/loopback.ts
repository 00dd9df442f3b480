/** Is this host name, as in a URL or a setting, this machine's loopback? Names other than `localhost` are not looked up. */
export function isLoopback(hostname: string): boolean {
  return (
    hostname.toLowerCase() === "localhost" ||
    hostname === "[::1]" ||
    hostname === "::1" ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}
