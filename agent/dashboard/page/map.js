// The live map: takes what the server pushes, and shows it as a graph and as tables.

import { View } from "./draw.js";
import { place } from "./layout.js";
import { clock, full, isBad, key } from "./names.js";
import { edgeDetail, edgeTable, element, eventTable, partyDetail, policyTable, totals, workloadTable } from "./panel.js";

const get = (id) => document.getElementById(id);
const SAMPLES = 120, LARGE = 300;
const state = { graph: null, workloads: new Map(), policies: {}, chosen: null, tab: "edges", records: [], samples: new Map(), places: new Map(), known: "", told: new Set() };
const view = new View(get("canvas"), choose);
let source;

function connect() {
  source?.close();
  source = new EventSource(`events?window=${get("window").value}`);
  source.onmessage = (message) => { if (ago() === 0) take(JSON.parse(message.data)); };
  source.onerror = () => { said("lost", source.readyState === EventSource.CLOSED ? "the link is not good any more: warren dashboard prints a new one" : "connection lost, trying again"); };
}

const ago = () => -Number(get("ago").value);

async function lookBack() {
  get("ago-text").textContent = ago() ? `${Math.floor(ago() / 60)} min ${ago() % 60} s ago` : "now";
  const wanted = ago();
  if (!wanted) return;
  const answer = await fetch(`graph?window=${get("window").value}&ago=${wanted}`);
  if (answer.ok && ago() === wanted) take(await answer.json());
}

function take(graph) {
  state.graph = graph;
  if (graph.workloads) state.workloads = new Map(graph.workloads.map((one) => [one.id, one]));
  if (graph.policies) state.policies = graph.policies;
  if (!ago()) sample(graph.edges);
  announce(graph.edges);
  const problem = Object.values(graph.problems)[0], when = clock(graph.at);
  said(problem ? "lost" : ago() ? "past" : "live", problem ?? (ago() ? `as it was at ${when}` : `live, ${when}`));
  showSoon();
}

/** A large graph waits for the end of a movement, three seconds at most. */
function showSoon() {
  clearTimeout(state.waiting);
  state.since ??= performance.now();
  if (view.moving && state.graph.edges.length > LARGE && performance.now() - state.since < 3000) {
    state.waiting = setTimeout(showSoon, 100);
  } else {
    state.since = null;
    show();
  }
}

function sample(edges) {
  for (const edge of edges) {
    const known = state.samples.get(key(edge)) ?? [];
    known.push(edge.requests || edge.connections);
    if (known.length > SAMPLES) known.shift();
    state.samples.set(key(edge), known);
  }
}

/** To who hears the page: what is denied from now on. */
function announce(edges) {
  const denied = edges.filter((edge) => edge.denied > 0), fresh = denied.filter((edge) => !state.told.has(key(edge)));
  if (fresh.length) get("announce").textContent = fresh.slice(0, 3).map((edge) => `denied: ${full(edge.source)} to ${full(edge.destination)}`).join("; ");
  state.told = new Set(denied.map(key));
}

function said(kind, text) {
  get("state").className = kind;
  get("state-text").textContent = text;
}

const fits = (id) => {
  const wanted = get("find").value.trim().toLowerCase(), workload = state.workloads.get(id);
  return !wanted || full(id).toLowerCase().includes(wanted) || (workload?.services.some((one) => one.toLowerCase().includes(wanted)) ?? false);
};

function show() {
  const { graph } = state;
  if (!graph) return;
  const edges = graph.edges, ids = new Set(edges.flatMap((edge) => [edge.source, edge.destination]));
  if (get("idle").checked) for (const id of state.workloads.keys()) ids.add(id);
  arrange(ids, edges);
  view.fits = fits;
  view.chosen = state.chosen;
  view.show(state.places, edges, state.workloads);
  get("empty").hidden = ids.size > 0;
  get("canvas").setAttribute("aria-label", `${ids.size} parties and ${edges.length} edges, ${edges.filter(isBad).length} of them with errors or denials; the table has the same`);
  get("totals").replaceChildren(...totals(edges, graph));
  panel();
}

/** Places are kept as long as nobody new is there. */
function arrange(ids, edges) {
  const pairs = edges.map((edge) => [edge.source, edge.destination]);
  const known = [...ids].sort().join(" ");
  if (known === state.known) return;
  const fresh = [...ids].some((id) => !state.places.has(id));
  state.known = known;
  if (fresh) state.places = place([...ids].sort(), pairs);
  else state.places = new Map([...state.places].filter(([id]) => ids.has(id)));
}

function panel() {
  const focused = document.activeElement?.dataset?.id, inside = document.activeElement?.closest?.("#table, #detail")?.id;
  const edges = state.graph.edges.filter((edge) => fits(edge.source) || fits(edge.destination));
  get("table").replaceChildren({
    edges: () => edgeTable(edges, state.chosen, choose),
    workloads: () => workloadTable([...state.workloads.values()].filter((one) => fits(one.id)), state.graph.edges, state.chosen, choose),
    events: () => eventTable(state.graph.events.filter((event) => fits(event.source) || fits(event.destination)), choose),
    policies: () => policyTable(state.policies),
  }[state.tab]());
  detail();
  if (focused) get(inside).querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function detail() {
  const { chosen, graph } = state, edge = graph.edges.find((one) => key(one) === chosen);
  const party = chosen && !chosen.includes(" ");
  get("detail").hidden = !edge && !party;
  if (!edge && !party) return;
  const shown = edge ? edgeDetail(edge, state.samples.get(chosen) ?? [], state.workloads, choose) : partyDetail(chosen, state.workloads.get(chosen), graph.edges, choose);
  const close = element("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => choose() }, "×");
  get("detail").replaceChildren(close, ...shown, ...(state.records.length ? [eventTable(state.records)] : []));
}

/** Of a party or an edge; of nothing: none. */
function choose(kind, id) {
  state.chosen = id ?? null;
  state.records = [];
  show();
  if (id) { records(); get("panel").scrollTop = 0; }
}

async function records() {
  const chosen = state.chosen, [source, destination] = chosen.includes(" ") ? chosen.split(" ") : [null, null];
  const query = new URLSearchParams(source ? { source, destination } : { destination: chosen });
  const answer = await fetch(`records?${query}`);
  if (!answer.ok || chosen !== state.chosen) return;
  state.records = (await answer.json()).slice(0, 12);
  detail();
}

function step(direction) {
  const edges = d3.sort(state.graph?.edges ?? [], key);
  if (!edges.length) return;
  const index = edges.findIndex((edge) => key(edge) === state.chosen);
  choose("edge", key(edges[(index + direction + edges.length) % edges.length]));
}

const KEYS = {
  ArrowLeft: () => view.move(60, 0), ArrowRight: () => view.move(-60, 0), ArrowUp: () => view.move(0, 60), ArrowDown: () => view.move(0, -60),
  "+": () => view.scale(1.25), "=": () => view.scale(1.25), "-": () => view.scale(0.8), 0: () => view.fit(),
  n: () => step(1), p: () => step(-1), Enter: () => { if (state.chosen) get("detail").querySelector(".close").focus(); },
};
get("canvas").addEventListener("keydown", (event) => {
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && state.chosen) { choose(); get("canvas").focus(); } });

const tabs = [...document.querySelectorAll("[role=tab]")];
function select(tab) {
  for (const one of tabs) { one.setAttribute("aria-selected", one === tab); one.tabIndex = one === tab ? 0 : -1; }
  get("table").setAttribute("aria-labelledby", tab.id);
  state.tab = tab.id.slice(4);
  if (state.graph) panel();
}
tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    const next = tabs[(index + way + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
});

get("controls").addEventListener("submit", (event) => event.preventDefault());
get("find").addEventListener("input", show);
get("idle").addEventListener("change", show);
get("window").addEventListener("change", () => { connect(); lookBack(); });
get("ago").addEventListener("input", lookBack);

const THEMES = [["", "◐", "as the system"], ["light", "☀", "light"], ["dark", "☾", "dark"]];
function theme(name) {
  const [value, sign, text] = THEMES.find(([one]) => one === name) ?? THEMES[0];
  if (value) document.documentElement.dataset.theme = value; else delete document.documentElement.dataset.theme;
  get("theme").textContent = sign;
  get("theme").setAttribute("aria-label", `Theme: ${text}`);
  get("theme").title = `Theme: ${text}`;
  view.recolour();
  return value;
}
get("theme").addEventListener("click", () => {
  const index = THEMES.findIndex(([one]) => one === (document.documentElement.dataset.theme ?? ""));
  localStorage.setItem("theme", theme(THEMES[(index + 1) % THEMES.length][0]));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.recolour());
theme(localStorage.getItem("theme") ?? "");

window.warrenMap = { state, view };  // for those who look from the console
connect();
