// The panel beside the graph: totals, tables with all that the graph shows, and what is chosen.

import { LOCKS, bytes, clock, full, isBad, key, party, rate, time, traffic } from "./names.js";

const MOST_ROWS = 120;

/** An element, its attributes, and what is in it: text or elements, never markup. */
export function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value != null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...inside.filter((one) => one != null && one !== ""));
  return made;
}

const number = (text) => element("td", { class: "number" }, text);

export function totals(edges, graph) {
  const sum = (name) => d3.sum(edges, (edge) => edge[name]);
  const figure = (value, text, bad) => element("div", { class: bad ? "figure bad" : "figure" }, element("b", {}, value), element("span", {}, text));
  return [
    figure(rate(sum("requests")), "requests/s"),
    figure(rate(sum("connections")), "connections/s"),
    figure(rate(sum("errors")), "errors/s", sum("errors") > 0),
    figure(rate(sum("denied")), "denied/s", sum("denied") > 0),
    figure(protectedShare(edges), "in mutual TLS"),
    figure(String(graph.nodes.length), graph.nodes.length === 1 ? "node" : "nodes", Object.keys(graph.problems).length > 0),
  ];
}

function protectedShare(edges) {
  const all = d3.sum(edges, (edge) => d3.sum(Object.values(edge.paths)));
  return all ? `${Math.round((100 * d3.sum(edges, (edge) => edge.paths.tunnel ?? 0)) / all)} %` : "–";
}

function table(caption, columns, rows) {
  const heads = columns.map(([text, numeric]) => element("th", { scope: "col", class: numeric ? "number" : null }, text));
  const more = rows.length > MOST_ROWS ? `, the first ${MOST_ROWS}: find narrows it` : "";
  return element("table", {}, element("caption", {}, caption + more), element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows.slice(0, MOST_ROWS).map((row) => row())));
}

function chooser(text, choose, kind, id) {
  return element("button", { type: "button", "data-id": id, onclick: () => choose(kind, id) }, text);
}

export function edgeTable(edges, chosen, choose) {
  const rows = d3.sort(edges, (edge) => -edge.denied, (edge) => -edge.errors, (edge) => -traffic(edge)).map((edge) => () =>
    element("tr", { class: [edge.denied > 0 && "denied", chosen === key(edge) && "chosen"].filter(Boolean).join(" ") },
      element("td", {}, chooser(`${full(edge.source)} → ${full(edge.destination)}`, choose, "edge", key(edge))),
      element("td", { class: `word lock ${edge.lock}`, title: LOCKS[edge.lock][2] }, LOCKS[edge.lock][0]),
      number(edge.requests ? rate(edge.requests) : ""), number(edge.connections ? rate(edge.connections) : edge.open ? `${edge.open} open` : ""),
      element("td", { class: isBad(edge) ? "number bad" : "number" }, edge.errors ? rate(edge.errors) : ""), number(time(edge.p99))));
  return table(`${edges.length} edges`, [["From → to"], ["Lock"], ["Req/s", 1], ["Conn/s", 1], ["Err/s", 1], ["p99", 1]], rows);
}

export function workloadTable(workloads, edges, chosen, choose) {
  const into = d3.rollup(edges, (some) => d3.sum(some, traffic), (edge) => edge.destination);
  const rows = d3.sort(workloads, (one) => -(into.get(one.id) ?? 0), (one) => one.id).map((one) => () =>
    element("tr", { class: chosen === one.id ? "chosen" : null },
      element("td", {}, chooser(full(one.id), choose, "party", one.id)), element("td", { class: one.captured ? "word lock mtls" : "word lock plain" }, one.captured ? "in the mesh" : "not captured"),
      number(String(one.pods.length)), number(into.has(one.id) ? rate(into.get(one.id)) : "")));
  return table(`${workloads.length} workloads`, [["Workload"], ["Mesh"], ["Pods", 1], ["In/s", 1]], rows);
}

export function eventTable(events, choose) {
  const rows = events.map((event) => () =>
    element("tr", { class: event.verdict === "refused" ? "denied" : null },
      element("td", { class: "time" }, clock(event.at)),
      element("td", {}, choose ? chooser(`${event.from_} → ${event.to}`, choose, "edge", key(event)) : `${event.from_} → ${event.to}`, element("br"), element("small", {}, [event.what, event.path && LOCKS[event.path === "tunnel" ? "mtls" : event.path]?.[1], event.route && `route ${event.route}`, event.why].filter(Boolean).join(", "))),
      element("td", { class: event.verdict === "ok" ? "word" : "word bad" }, event.verdict), number(time(event.milliseconds ?? 0))));
  return table("What went wrong first, then a part of what went well", [["At"], ["Connection or request"], ["Verdict"], ["Took", 1]], rows);
}

export function policyTable(policies) {
  const rows = d3.sort(Object.values(policies), (one) => one.name).map((one) => () =>
    element("tr", {}, element("td", {}, one.name, element("br"), element("small", { class: one.refused ? "bad" : null }, one.refused ? `not in force as written: ${one.refused}` : `${one.action}, ${one.scope}${one.dry_run ? ", dry run" : ""}`)),
      element("td", {}, Object.entries(one.verdicts).filter(([, count]) => count).map(([verdict, count]) => `${verdict} ${count}`).join(", ") || "never decided")));
  return table(`${rows.length} policies, and how often each has decided since its tunnel began`, [["Policy"], ["Verdicts"]], rows);
}

function line(samples) {
  if (samples.length < 2) return null;
  const top = Math.max(1e-9, d3.max(samples));
  const path = d3.line((_, index) => (index * 300) / (samples.length - 1), (value) => 42 - (40 * value) / top)(samples);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 300 44");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `the last ${samples.length} seconds, up to ${rate(top)} per second`);
  svg.append(document.createElementNS(svg.namespaceURI, "path"));
  svg.firstChild.setAttribute("d", path);
  return svg;
}

const listed = (counts, total = d3.sum(Object.values(counts))) => d3.sort(Object.entries(counts), ([, count]) => -count)
  .map(([name, count]) => `${name} (${total ? Math.round((100 * count) / total) : 0} %)`).join(", ");

function facts(pairs) {
  return element("dl", {}, ...pairs.filter(([, value]) => value).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, ...[value].flat())]));
}

export function edgeDetail(edge, samples, workloads, choose) {
  const [, lock, meaning] = LOCKS[edge.lock], source = workloads.get(edge.source), pod = source?.pods[0]?.[0];
  const service = d3.greatest(Object.entries(edge.services), ([, count]) => count)?.[0], destination = workloads.get(edge.destination);
  const ask = pod && (service || destination?.pods[0]) ? `warren why ${source.namespace}/${pod} ${service ?? `${destination.namespace}/${destination.pods[0][0]}`}` : "";
  return [
    element("h2", {}, chooser(full(edge.source), choose, "party", edge.source), " → ", chooser(full(edge.destination), choose, "party", edge.destination)),
    element("div", { class: `lock ${edge.lock}` }, lock), element("small", {}, meaning), line(samples) ?? "",
    facts([
      ["Requests", edge.requests && `${rate(edge.requests)} per second`], ["Connections", `${rate(edge.connections)} per second, ${edge.open} open`],
      ["p99", time(edge.p99)], ["Bytes", edge.bytes && `${bytes(edge.bytes)} per second`],
      ["Denied", edge.denied && element("span", { class: "bad" }, `${rate(edge.denied)} per second`)], ["Errors", edge.errors && element("span", { class: "bad" }, `${rate(edge.errors)} per second`)],
      ["Because", Object.keys(edge.reasons).length && element("span", { class: "bad" }, listed(edge.reasons))],
      ["Paths", listed(edge.paths)], ["Services", listed(edge.services)], ["Routes", listed(edge.routes)],
      ["Identities", [source?.identity, destination?.identity].filter(Boolean).join(" → ")], ["Ask", ask && element("code", {}, ask)],
    ]),
  ];
}

export function partyDetail(id, workload, edges, choose) {
  const { kind } = party(id), out = edges.filter((edge) => edge.source === id), into = edges.filter((edge) => edge.destination === id);
  const ends = (some, end) => some.map((edge) => element("div", {}, chooser(full(edge[end]), choose, "edge", key(edge)), ` ${rate(traffic(edge))}/s`));
  const what = { workload: workload ? (workload.captured ? "in the mesh: captured, mutual TLS" : "not captured: plain text") : "not known any more", service: "a host or a Service of which no pod was reached", outside: "addresses that are no workload of the mesh" }[kind];
  return [
    element("h2", {}, full(id)), element("small", {}, what),
    facts([
      ["Identity", workload?.identity], ["Services", workload?.services.map((one) => one.split("/").pop()).join(", ")],
      ["Pods", workload?.pods.map(([name, addresses, node]) => element("div", {}, `${name} `, element("small", {}, `${addresses} on ${node}`)))],
      ["Called by", into.length && ends(into, "source")], ["Calls", out.length && ends(out, "destination")],
      ["Ask", workload?.pods[0] && element("code", {}, `warren flows --pod ${workload.pods[0][0]} --follow`)],
    ]),
  ];
}
