// The graph on a canvas. It is painted into a picture that is larger than the window, and each frame of a
// movement shows that picture: a thousand workloads move at the screen's own rate, without a GPU, too.

import { full, isBad, key, party, summary, traffic } from "./names.js";

const WIDTH = 176, HEIGHT = 46, MARGIN = 0.5;  // of the window, on each side
const DETAIL = 0.42;  // zoom below which there is no text
const LABELS = 150;  // edges up to which each has its figures beside it
const CURVES = 600;  // edges up to which they are curves

/** Of a canvas. choose(kind, id) is called for what is clicked. */
export class View {
  constructor(canvas, choose) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.picture = document.createElement("canvas");
    this.choose = choose;
    this.places = new Map();
    this.edges = [];
    this.workloads = new Map();
    this.chosen = null;
    this.fits = () => true;
    this.frames = 0;
    this.now = d3.zoomIdentity;
    this.painted = d3.zoomIdentity;
    this.cost = 0;
    this.zoom = d3.zoom().scaleExtent([0.03, 3]).on("zoom", (event) => this.#moved(event.transform));
    d3.select(canvas).call(this.zoom).on("dblclick.zoom", null);
    canvas.addEventListener("click", (event) => this.#clicked(event));
    canvas.addEventListener("mousemove", (event) => { if (!event.buttons) canvas.title = this.#under(event)?.text ?? ""; });
    new ResizeObserver(() => this.#resized()).observe(canvas);
    this.recolour();
  }

  /** Colours as the style sheet has them now. */
  recolour() {
    const style = getComputedStyle(document.documentElement);
    this.colours = Object.fromEntries(["ink", "soft", "line", "card", "mtls", "direct", "plain", "bad", "idle", "accent", "back", "badback"]
      .map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.font = getComputedStyle(document.body).fontFamily;
    this.paint();
  }

  /** Show these edges and workloads, at these places. */
  show(places, edges, workloads) {
    const first = this.places.size === 0 && places.size > 0, grown = places !== this.places && this.untouched;
    Object.assign(this, { places, edges, workloads });
    if (first || grown) this.fit(0);
    else this.paint();
  }

  /** All of it in the window. */
  fit(duration = 250) {
    this.untouched = true;
    this.movedAt = 0;
    if (!this.places.size) return this.paint();
    const all = [...this.places.values()], pad = 30;
    const [left, right] = d3.extent(all, (one) => one.x), [top, bottom] = d3.extent(all, (one) => one.y);
    const width = right - left + WIDTH + 2 * pad, height = bottom - top + HEIGHT + 2 * pad;
    const scale = Math.min(1.15, this.width / width, this.height / height);
    const to = d3.zoomIdentity.translate(this.width / 2, this.height / 2).scale(scale).translate(-(left + right) / 2, -(top + bottom) / 2);
    this.fitting = true;
    d3.select(this.canvas).transition().duration(still() ? 0 : duration).call(this.zoom.transform, to).on("end", () => { this.fitting = false; });
    if (!duration || still()) { d3.select(this.canvas).interrupt().call(this.zoom.transform, to); this.fitting = false; this.paint(); }
  }

  move(x, y) { d3.select(this.canvas).call(this.zoom.translateBy, x / this.now.k, y / this.now.k); }
  scale(factor) { d3.select(this.canvas).call(this.zoom.scaleBy, factor); }

  #resized() {
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    const ratio = this.ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    this.picture.width = this.canvas.width * (1 + 2 * MARGIN);
    this.picture.height = this.canvas.height * (1 + 2 * MARGIN);
    if (this.untouched) this.fit(0);
    else this.paint();
  }

  /** By hand, just now: what is expensive can wait. */
  get moving() { return performance.now() - this.movedAt < 200; }

  #moved(transform) {
    this.now = transform;
    this.movedAt = performance.now();
    if (!this.fitting) this.untouched = false;
    this.#frame();
    clearTimeout(this.settling);
    const wait = performance.now() - this.paintedAt > Math.max(250, 12 * this.cost) ? 0 : 120;
    this.settling = setTimeout(() => this.paint(), wait);
  }

  #frame() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.frames += 1;
      const { context, now, painted, ratio } = this, k = now.k / painted.k;
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      const x = now.x - painted.x * k - this.width * MARGIN * k, y = now.y - painted.y * k - this.height * MARGIN * k;
      if (k === 1) context.drawImage(this.picture, Math.round(x * ratio), Math.round(y * ratio));  // copied, not filtered
      else context.drawImage(this.picture, x * ratio, y * ratio, this.picture.width * k, this.picture.height * k);
    });
  }

  /** Anew, for what is to be seen now. */
  paint() {
    if (!this.width || !this.colours) return;
    const began = performance.now(), context = this.picture.getContext("2d"), { now, ratio } = this;
    this.painted = now;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.picture.width, this.picture.height);
    context.setTransform(now.k * ratio, 0, 0, now.k * ratio, (now.x + this.width * MARGIN) * ratio, (now.y + this.height * MARGIN) * ratio);
    this.#paintEdges(context);
    this.#paintParties(context);
    this.paintedAt = performance.now();
    this.cost = this.paintedAt - began;
    this.#frame();
  }

  #sees(x, y) {
    const at = this.painted.apply([x, y]);
    const w = this.width * MARGIN + WIDTH, h = this.height * MARGIN + HEIGHT;
    return at[0] > -w && at[0] < this.width + w && at[1] > -h && at[1] < this.height + h;
  }

  #paintEdges(context) {
    const groups = new Map(), labelled = [], many = this.edges.length > CURVES;
    for (const edge of this.edges) {
      const curve = this.#curve(edge);
      if (!curve) continue;
      const dim = !this.fits(edge.source) && !this.fits(edge.destination);
      const kind = isBad(edge) ? "bad" : { mtls: "mtls", direct: "direct", plain: "plain", mixed: "plain" }[edge.lock] ?? "idle";
      const chosen = this.chosen === key(edge);
      const width = chosen ? 5 : Math.min(4.5, 1.2 + Math.log10(1 + traffic(edge)) * 1.1);
      const name = [kind, edge.lock, Math.round(width * 2), dim].join();
      if (!groups.has(name)) groups.set(name, { kind, lock: edge.lock, width, dim, path: new Path2D(), heads: new Path2D() });
      const group = groups.get(name);
      group.path.moveTo(...curve[0]);
      if (many) group.path.lineTo(...curve[3]);
      else group.path.bezierCurveTo(...curve[1], ...curve[2], ...curve[3]);
      if (this.now.k > 0.25) head(group.heads, curve, 5 + width);
      if (!dim && (chosen || this.edges.length <= LABELS || (kind === "bad" && this.now.k > 0.7))) labelled.push([edge, curve, kind]);
    }
    for (const { kind, lock, width, dim, path, heads } of groups.values()) {
      context.globalAlpha = dim ? 0.12 : many ? 1 : 0.9;
      context.strokeStyle = context.fillStyle = this.colours[kind];
      context.lineWidth = many && kind !== "bad" ? 0.7 / this.now.k : Math.max(width, 0.8 / this.now.k);
      context.setLineDash(many ? [] : lock === "direct" ? [9, 5] : lock === "plain" || lock === "mixed" ? [3, 4] : []);
      context.stroke(path);
      context.setLineDash([]);
      if (this.now.k > 0.25) context.fill(heads);
    }
    context.globalAlpha = 1;
    if (this.now.k > DETAIL) for (const one of labelled) this.#label(context, ...one);
  }

  #label(context, edge, curve, kind) {
    const text = summary(edge), locked = edge.lock === "mtls" || edge.lock === "plain";
    const [x, y] = at(curve, 0.5);
    context.font = `11px ${this.font}`;
    const width = context.measureText(text).width + 12 + (locked ? 13 : 0);
    context.fillStyle = this.colours[kind === "bad" ? "badback" : "back"];
    context.beginPath();
    context.roundRect(x - width / 2, y - 9, width, 18, 9);
    context.fill();
    context.fillStyle = this.colours[kind === "bad" ? "bad" : "soft"];
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(text, x - width / 2 + 6 + (locked ? 13 : 0), y + 0.5);
    if (locked) padlock(context, x - width / 2 + 10, y, edge.lock === "plain", this.colours[edge.lock]);
  }

  #paintParties(context) {
    const detail = this.now.k > DETAIL, bad = new Set(this.edges.filter(isBad).map((edge) => edge.destination));
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    for (const [id, { x, y }] of this.places) {
      if (!this.#sees(x, y)) continue;
      const workload = this.workloads.get(id), { kind, namespace, name } = party(id);
      const chosen = this.chosen === id, dim = !this.fits(id);
      context.globalAlpha = dim ? 0.18 : 1;
      if (!detail && !chosen && !bad.has(id)) {
        context.fillStyle = workload?.captured ? this.colours.mtls : kind === "workload" ? this.colours.plain : this.colours.idle;
        context.fillRect(x - WIDTH / 2, y - HEIGHT / 2, WIDTH, HEIGHT);
        continue;
      }
      context.fillStyle = this.colours.card;
      context.strokeStyle = chosen ? this.colours.accent : bad.has(id) ? this.colours.bad : this.colours.line;
      context.lineWidth = chosen ? 3 : 1.4;
      context.setLineDash(kind === "workload" ? [] : [5, 4]);
      context.beginPath();
      context.roundRect(x - WIDTH / 2, y - HEIGHT / 2, WIDTH, HEIGHT, 9);
      context.fill();
      context.stroke();
      context.setLineDash([]);
      context.fillStyle = workload?.captured ? this.colours.mtls : kind === "workload" ? this.colours.plain : this.colours.idle;
      context.beginPath();
      context.roundRect(x - WIDTH / 2, y - HEIGHT / 2, 6, HEIGHT, [9, 0, 0, 9]);
      context.fill();
      if (!detail) continue;
      context.fillStyle = this.colours.ink;
      context.font = `600 13px ${this.font}`;
      context.fillText(shortened(context, name, WIDTH - 26), x - WIDTH / 2 + 16, y - 2);
      context.fillStyle = this.colours.soft;
      context.font = `11px ${this.font}`;
      const pods = workload ? ` · ${workload.pods.length} ${workload.pods.length === 1 ? "pod" : "pods"}` : "";
      context.fillText(shortened(context, namespace + pods, WIDTH - 26), x - WIDTH / 2 + 16, y + 14);
    }
    context.globalAlpha = 1;
  }

  #curve(edge) {
    const from = this.places.get(edge.source), to = this.places.get(edge.destination);
    if (!from || !to) return null;
    const half = WIDTH / 2;
    if (edge.source === edge.destination) {
      return [[from.x + half, from.y - 8], [from.x + half + 60, from.y - 50], [from.x - half - 60, from.y - 50], [from.x - half, from.y - 8]];
    }
    const forth = to.x > from.x, begin = [from.x + half, from.y], end = [to.x - half, to.y];
    const bend = forth ? Math.max(50, (end[0] - begin[0]) / 2) : 130;
    return [begin, [begin[0] + bend, begin[1]], [end[0] - bend, end[1]], end];
  }

  #under(event) {
    const [x, y] = this.now.invert(d3.pointer(event, this.canvas));
    for (const [id, place] of this.places) {
      if (Math.abs(place.x - x) <= WIDTH / 2 && Math.abs(place.y - y) <= HEIGHT / 2) return { kind: "party", id, text: full(id) };
    }
    const reach = 7 / this.now.k;
    for (const edge of this.edges) {
      const curve = this.#curve(edge);
      if (!curve || x < Math.min(...curve.map((p) => p[0])) - reach || x > Math.max(...curve.map((p) => p[0])) + reach) continue;
      for (let t = 0; t <= 1; t += 0.04) {
        const point = at(curve, t);
        if (Math.hypot(point[0] - x, point[1] - y) < reach + 3) return { kind: "edge", id: key(edge), text: `${full(edge.source)} → ${full(edge.destination)}: ${summary(edge)}` };
      }
    }
    return null;
  }

  #clicked(event) {
    const found = this.#under(event);
    this.choose(found?.kind, found?.id);
  }
}

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Closed or open, about 9 high. */
function padlock(context, x, y, open, colour) {
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = 1.3;
  context.fillRect(x - 4, y - 1, 8, 6);
  context.beginPath();
  context.arc(x + (open ? 3 : 0), y - 1.5, 2.6, Math.PI, open ? 1.8 * Math.PI : 0);
  context.stroke();
}

function at([a, b, c, d], t) {
  const u = 1 - t;
  return [0, 1].map((i) => u * u * u * a[i] + 3 * u * u * t * b[i] + 3 * u * t * t * c[i] + t * t * t * d[i]);
}

function head(path, curve, size) {
  const [x, y] = curve[3], [fx, fy] = at(curve, 0.94), angle = Math.atan2(y - fy, x - fx);
  path.moveTo(x, y);
  path.lineTo(x - size * Math.cos(angle - 0.4), y - size * Math.sin(angle - 0.4));
  path.lineTo(x - size * Math.cos(angle + 0.4), y - size * Math.sin(angle + 0.4));
  path.closePath();
}

function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  while (text.length > 3 && context.measureText(`${text}…`).width > width) text = text.slice(0, -1);
  return `${text}…`;
}
