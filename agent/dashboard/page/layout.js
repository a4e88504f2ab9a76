// Places for the parties: in columns from who calls to who is called, in an order with few crossings.
// The same graph gets the same places: nothing moves while one looks at it.

const COLUMN = 300, ROW = 74, SWEEPS = 6;
const SHAPE = 1.3, STRETCHED = 2.2;  // width by height of a good picture, and how far rows part for it

/** ids: of the parties; pairs: [source, destination]. Gives a Map of id -> {x, y}. */
export function place(ids, pairs) {
  const after = new Map(ids.map((id) => [id, []])), before = new Map(ids.map((id) => [id, []]));
  for (const [source, destination] of pairs) {
    if (source === destination || !after.has(source) || !after.has(destination)) continue;
    after.get(source).push(destination);
    before.get(destination).push(source);
  }
  const columns = wrapped(ordered(byRank(ids, after, before), after, before), ids.length);
  const places = new Map(), longest = Math.max(1, ...columns.map((column) => column.length));
  const row = ROW * Math.min(STRETCHED, Math.max(1, (columns.length * COLUMN) / (longest * ROW * SHAPE)));
  columns.forEach((column, x) => column.forEach((id, y) => {
    places.set(id, { x: x * COLUMN, y: (y - (column.length - 1) / 2) * row });
  }));
  return places;
}

/** Columns by the longest way from a party that nobody calls; an edge that closes a circle does not count. */
function byRank(ids, after, before) {
  const rank = new Map(), waiting = new Map(ids.map((id) => [id, before.get(id).length]));
  let ready = ids.filter((id) => !waiting.get(id));
  const done = new Set();
  while (done.size < ids.length) {
    if (!ready.length) {  // a circle: begin where the least is missing
      const rest = ids.filter((id) => !done.has(id));
      ready = [rest.reduce((a, b) => (waiting.get(b) < waiting.get(a) ? b : a))];
    }
    const id = ready.pop();
    if (done.has(id)) continue;
    done.add(id);
    const known = before.get(id).filter((one) => rank.has(one)).map((one) => rank.get(one) + 1);
    rank.set(id, Math.max(0, ...known));
    for (const next of after.get(id)) {
      waiting.set(next, waiting.get(next) - 1);
      if (waiting.get(next) === 0 && !done.has(next)) ready.push(next);
    }
  }
  const columns = [];
  for (const id of ids) (columns[rank.get(id)] ??= []).push(id);
  return columns.filter(Boolean);
}

/** Each by the middle of its neighbours in the next column, to and fro. */
function ordered(columns, after, before) {
  const at = new Map();
  const number = (column) => column.forEach((id, index) => at.set(id, index - column.length / 2));
  columns.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const forth = sweep % 2 === 0, neighbours = forth ? before : after;
    for (const column of forth ? columns : [...columns].reverse()) {
      const middle = new Map(column.map((id) => {
        const near = neighbours.get(id).map((one) => at.get(one));
        return [id, near.length ? near.reduce((a, b) => a + b, 0) / near.length : at.get(id)];
      }));
      column.sort((a, b) => middle.get(a) - middle.get(b) || (a < b ? -1 : 1));
      number(column);
    }
  }
  return columns;
}

/** Long columns side by side, so that the whole is about as wide as a screen. */
function wrapped(columns, count) {
  const rows = Math.max(8, Math.ceil(Math.sqrt((count * COLUMN) / (ROW * SHAPE))));
  return columns.flatMap((column) => {
    const parts = Math.ceil(column.length / rows), size = Math.ceil(column.length / parts);
    return Array.from({ length: parts }, (_, part) => column.slice(part * size, (part + 1) * size));
  });
}
