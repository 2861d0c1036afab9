"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const element = (id) => document.getElementById(id);
const mode = () => (dark.matches ? "dark" : "light");
// Above this many curves, a canvas is drawn and the nearest point is not searched.
const MANY = 24;

const shown = { group: 0, variants: new Set(), metrics: [...data.default_metrics] };
const embedded = new Map(); // id of a chart -> the view that must be ended before it is drawn again

function color(rank) {
  const palette = data.palettes[mode()];
  return palette[rank % palette.length];
}

function dash(rank) {
  const size = data.palettes.light.length;
  return data.dashes[Math.floor(rank / size) % data.dashes.length];
}

async function draw(id, spec, renderer) {
  const target = element(id);
  const before = embedded.get(id);
  const options = {
    mode: "vega-lite",
    renderer: renderer || "svg",
    config: data.config[mode()],
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: id,
  };
  const result = await vegaEmbed(target, spec, options);
  // The drawing itself is hidden from screen readers: the alternative text says more.
  target.querySelectorAll("svg, canvas").forEach((one) => one.setAttribute("aria-hidden", "true"));
  if (before) before.finalize();
  embedded.set(id, result);
  return result;
}

// Learning curves.

const group = () => data.groups[shown.group];
const chosen = () => group().variants.filter((one) => shown.variants.has(one.index));
const axis = () => document.querySelector("input[name=axis]:checked").value;
const isOn = (id) => element(id) !== null && element(id).checked;

function number(value) {
  if (value === null || value === undefined) return "n/a";
  const size = Math.abs(value);
  if (size >= 999.5) return Math.round(value).toLocaleString("en-US");
  return size !== 0 && size < 0.001 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}

function rowsOf(key) {
  const curves = [];
  const seeds = [];
  const bands = data.bands[key] || {};
  for (const variant of chosen()) {
    const band = bands[variant.index];
    if (!band) continue;
    const [mean, low, high] = band;
    const xs = data.x[variant.index][axis()];
    const withBand = isOn("bands") && low;
    xs.forEach((x, i) => {
      if (x === null || mean[i] === null) return;
      const interval = low ? ` [${number(low[i])}, ${number(high[i])}]` : "";
      curves.push({
        label: variant.label, x, mean: mean[i],
        low: withBand ? low[i] : mean[i], high: withBand ? high[i] : mean[i],
        words: number(mean[i]) + interval,
      });
    });
    const single = isOn("seeds") && data.seeds[key] && data.seeds[key][variant.index];
    (single || []).forEach((values, seed) => values.forEach((value, i) => {
      if (xs[i] !== null && value !== null) seeds.push({ label: variant.label, seed: `${variant.index}/${seed}`, x: xs[i], value });
    }));
  }
  return { curves, seeds };
}

function domain(rows) {
  let low = Infinity;
  let high = -Infinity;
  const take = (value) => { low = Math.min(low, value); high = Math.max(high, value); };
  rows.curves.forEach((row) => take(row.mean));
  rows.seeds.forEach((row) => take(row.value));
  if (low > high) return [0, 1];
  // Equal values may differ by rounding.
  const isFlat = high - low <= 1e-12 * Math.max(Math.abs(low), Math.abs(high));
  const pad = isFlat ? Math.max(Math.abs(low) * 0.1, 0.5) : 0;
  return [low - pad, high + pad];
}

function curveSpec(metric, rows) {
  const spec = structuredClone(data.curve_spec);
  const variants = chosen();
  const labels = variants.map((one) => one.label);
  spec.datasets = rows;
  spec.encoding.x.title = data.x_titles[axis()];
  spec.encoding.color.scale = { domain: labels, range: variants.map((one) => color(one.rank)) };
  const range = domain(rows);
  if (rows.seeds.length === 0) spec.layer = spec.layer.filter((one) => one.data.name !== "seeds");
  if (labels.length > MANY) spec.layer = spec.layer.filter((one) => one.name !== "hover");
  spec.layer.forEach((layer) => {
    layer.encoding.y.scale.domain = range;
    layer.encoding.y.title = metric.words;
    if (layer.encoding.strokeDash) {
      layer.encoding.strokeDash.scale = { domain: labels, range: variants.map((one) => dash(one.rank)) };
    }
    if (layer.encoding.tooltip) {
      layer.encoding.tooltip[1].title = data.x_titles[axis()];
      layer.encoding.tooltip[2].title = metric.words;
    }
  });
  return spec;
}

function inWords(metric) {
  const bands = data.bands[metric.key] || {};
  const ends = chosen().slice(0, 10).map((variant) => {
    const values = bands[variant.index] ? bands[variant.index][0].filter((one) => one !== null) : [];
    return `${variant.label} ends at ${number(values.at(-1))}`;
  });
  const more = chosen().length > 10 ? `; and ${chosen().length - 10} more` : "";
  return `${metric.words} over ${data.x_titles[axis()]}: ${ends.join("; ") || "no variant is chosen"}${more}.`;
}

async function drawCurves(position) {
  const metric = data.metrics.find((one) => one.key === shown.metrics[position]);
  const id = `curves-${position}`;
  const rows = rowsOf(metric.key);
  if (rows.curves.length === 0) {
    if (embedded.has(id)) embedded.get(id).finalize();
    embedded.delete(id);
    element(id).textContent = "No variant that is shown has a curve of this metric.";
    element(id).setAttribute("aria-label", inWords(metric));
    element(`${id}-note`).textContent = "";
    return;
  }
  await draw(id, curveSpec(metric, rows), chosen().length > MANY ? "canvas" : "svg");
  element(id).setAttribute("aria-label", inWords(metric));
  const without = chosen().length - new Set(rows.curves.map((row) => row.label)).size;
  const missing = without ? ` ${without === 1 ? "1 variant has" : `${without} variants have`} no curve of it.` : "";
  element(`${id}-note`).textContent = `${metric.note}.${missing}`;
}

async function drawAllCurves() {
  element("count").textContent = `(${chosen().length} of ${group().variants.length})`;
  for (const position of shown.metrics.keys()) await drawCurves(position);
}

function metricPicker(position) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", `Metric of plot ${position + 1}`);
  const families = new Map();
  for (const metric of data.metrics) {
    if (!families.has(metric.family)) {
      const heading = document.createElement("optgroup");
      heading.label = metric.family;
      families.set(metric.family, heading);
      select.append(heading);
    }
    const option = new Option(metric.words, metric.key);
    families.get(metric.family).append(option);
  }
  select.value = shown.metrics[position];
  select.addEventListener("change", async () => {
    shown.metrics[position] = select.value;
    await drawCurves(position);
    element("said").textContent = element(`curves-${position}`).getAttribute("aria-label");
  });
  return select;
}

function addPlot(position) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.append(metricPicker(position));
  const plot = document.createElement("div");
  plot.id = `curves-${position}`;
  plot.className = "plot";
  plot.setAttribute("role", "img");
  const note = document.createElement("figcaption");
  note.id = `curves-${position}-note`;
  figure.append(bar, plot, note);
  element("plots").append(figure);
}

function swatch(rank) {
  const svg = `<svg width="22" height="4" aria-hidden="true"><line x1="0" x2="22" y1="2" y2="2" stroke="${color(rank)}" stroke-width="3" stroke-dasharray="${rank < data.palettes.light.length ? "none" : dash(rank).join(" ")}"/></svg>`;
  return document.createRange().createContextualFragment(svg);
}

function listVariants() {
  const wanted = element("filter") ? element("filter").value.toLowerCase() : "";
  const labels = group().variants
    .filter((one) => one.label.toLowerCase().includes(wanted))
    .map((one) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = shown.variants.has(one.index);
      box.value = one.index;
      box.addEventListener("change", () => {
        if (box.checked) shown.variants.add(one.index);
        else shown.variants.delete(one.index);
        drawAllCurves();
      });
      const words = document.createElement("span");
      words.textContent = one.label;
      const score = document.createElement("span");
      score.className = "score";
      score.textContent = ` ${one.score}`;
      words.append(score);
      label.append(box, swatch(one.rank), words);
      return label;
    });
  element("variants").replaceChildren(...labels);
}

function choose(variants) {
  shown.variants = new Set(variants.map((one) => one.index));
  listVariants();
  return drawAllCurves();
}

const best = () => choose(group().variants.slice(0, data.num_best));

function curvesAsCsv() {
  const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
  const lines = [`metric,variant,${axis() === "steps" ? "env_steps" : "wall_time"},mean,low,high`];
  for (const key of shown.metrics) {
    for (const variant of chosen()) {
      const band = (data.bands[key] || {})[variant.index];
      if (!band) continue;
      const xs = data.x[variant.index][axis()];
      xs.forEach((x, i) => {
        const cells = [x, band[0][i], band[1] && band[1][i], band[2] && band[2][i]];
        if (band[0][i] !== null) lines.push([quoted(key), quoted(variant.label), ...cells.map((one) => one ?? "")].join(","));
      });
    }
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
  link.download = "curves.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

// Tables.

function sortable(table) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") !== "descending";
      headers.forEach((one) => one.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const value = (row) => {
        const cell = row.cells[column];
        return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
      };
      const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b)) * (descending ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  });
}

async function copyMarkdown() {
  const text = element("markdown").value;
  try {
    await navigator.clipboard.writeText(text);
    element("copy").textContent = "Copied";
  } catch {
    // A page that was opened from a file may not use the clipboard: the text is shown and marked.
    element("markdown").closest("details").open = true;
    element("markdown").select();
    element("copy").textContent = "Marked: press Ctrl+C";
  }
}

// The page.

async function drawAll() {
  listVariants();
  await drawAllCurves();
  for (const [id, spec] of Object.entries(data.charts)) await draw(id, structuredClone(spec));
  document.body.dataset.drawn = mode();
}

function start() {
  const narrow = window.matchMedia("(max-width: 600px)");
  if (narrow.matches) shown.metrics.splice(1);
  shown.metrics.forEach((_, position) => addPlot(position));
  document.querySelectorAll("input[name=axis], #bands, #seeds").forEach((one) => one.addEventListener("change", drawAllCurves));
  if (element("best")) {
    element("best").addEventListener("click", best);
    element("all").addEventListener("click", () => choose(group().variants));
    element("none").addEventListener("click", () => choose([]));
  }
  element("add").addEventListener("click", async () => {
    const position = shown.metrics.length;
    const unused = data.metrics.find((one) => !shown.metrics.includes(one.key)) || data.metrics[0];
    shown.metrics.push(unused.key);
    addPlot(position);
    await drawCurves(position);
    document.querySelector("#plots figure:last-child select").focus();
  });
  element("curves-csv").addEventListener("click", curvesAsCsv);
  element("copy").addEventListener("click", copyMarkdown);
  if (element("filter")) element("filter").addEventListener("input", listVariants);
  if (element("group")) {
    element("group").addEventListener("change", () => {
      shown.group = Number(element("group").value);
      best();
    });
  }
  document.querySelectorAll("table.sortable").forEach(sortable);
  dark.addEventListener("change", drawAll);
  shown.variants = new Set(group().variants.slice(0, data.num_best).map((one) => one.index));
  drawAll();
}

start();
