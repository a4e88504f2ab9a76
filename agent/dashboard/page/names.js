// Words for parties, edges and figures.

export const LOCKS = {
  mtls: ["mTLS", "mutual TLS", "Encrypted, both identities proven by mutual TLS."],
  direct: ["direct", "direct, within the node", "Within one node, past the tunnel: both identities are proven by the kernel, nothing is encrypted, nothing is on a wire."],
  plain: ["plain", "plain text", "Not encrypted, no identity is proven: one end is not in the mesh."],
  mixed: ["mixed", "mixed", "Some of it in mutual TLS, some not; see the paths."],
  none: ["–", "nothing went through", "Nothing went through, so that there is nothing to protect."],
};

/** Of an id: kind, namespace and a name to show. */
export function party(id) {
  const [kind, ...rest] = id.split("/");
  if (kind === "workload") return { kind, namespace: rest[0], name: rest.slice(1).join("/") };
  if (kind === "service") return { kind, namespace: "service", name: rest.join("/") };
  return { kind: "outside", namespace: "not in the mesh", name: "outside" };
}

export const name = (id) => party(id).name;
export const full = (id) => { const one = party(id); return one.kind === "workload" ? `${one.namespace}/${one.name}` : one.name; };
export const key = (edge) => `${edge.source} ${edge.destination}`;
export const rate = (number) => (number >= 100 ? number.toFixed(0) : number >= 10 ? number.toFixed(1) : number.toFixed(2).replace(/\.?0+$/, "") || "0");
export const traffic = (edge) => edge.requests || edge.connections;
export const isBad = (edge) => edge.denied > 0 || edge.errors > 0;

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

export function time(milliseconds) {
  if (milliseconds == null) return "";
  return milliseconds >= 1000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${milliseconds >= 10 ? milliseconds.toFixed(0) : milliseconds.toFixed(1)} ms`;
}

export function bytes(count) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (count < 1000 || unit === "GB") return `${count < 10 && unit !== "B" ? count.toFixed(1) : count.toFixed(0)} ${unit}`;
    count /= 1000;
  }
}

/** An edge in a few words. */
export function summary(edge) {
  const parts = [];
  if (edge.requests) parts.push(`${rate(edge.requests)} req/s`);
  else if (edge.connections) parts.push(`${rate(edge.connections)} conn/s`);
  else if (edge.open) parts.push(`${edge.open} open`);
  if (edge.p99 != null) parts.push(time(edge.p99));
  if (edge.denied) parts.push(`${rate(edge.denied)} denied/s`);
  else if (edge.errors) parts.push(`${rate(edge.errors)} err/s`);
  return parts.join(" · ");
}
