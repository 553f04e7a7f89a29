"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const element = id => document.getElementById(id);
const colours = ["#2f7fd1", "#e07b28", "#3a9d5d", "#b3549f", "#8a7a2c", "#c44545", "#4aa3a8", "#7a6bd0"];
const colour = method => colours[method % colours.length];
const number = value => value === "inf" ? Infinity : value === "-inf" ? -Infinity : value === null ? NaN : value;
const isShare = name => /dice|nsd|iou|jaccard|sensitivity|specificity|precision|similarity/.test(name);
const scale = name => /^(lesion_)?dice/.test(name) ? 100 : 1;
const show = (value, name) => Number.isNaN(value) ? "nan" : !Number.isFinite(value) ? (value > 0 ? "inf" : "-inf")
  : (value * scale(name)).toFixed(isShare(name) && scale(name) === 1 ? 3 : 2);
const make = (tag, attributes = {}, text) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const draw = (parent, tag, attributes, title) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (title !== undefined) {
    const text = document.createElementNS("http://www.w3.org/2000/svg", "title");
    text.textContent = title;
    node.append(text);
  }
  parent.append(node);
  return node;
};
const label = (parent, x, y, text, anchor = "middle") => {
  draw(parent, "text", {x, y, "text-anchor": anchor}).textContent = text;
};

const state = {convention: 0, metric: -1, sort: "case", descending: false, filter: "", shown: 0};
const convention = () => data.conventions[state.convention];
// All of the main table, or the one chosen.
const chosenMetrics = () => {
  if (state.metric >= 0) return [convention().metrics[state.metric]];
  const main = convention().metrics.filter(m => m.main);
  return main.length > 0 ? main : convention().metrics.slice(0, 1);
};

// A vertical axis: shares run from 0 to 1, everything else from 0 on a logarithmic scale.
function axisOf(values, name, top, bottom) {
  const finite = values.filter(Number.isFinite);
  if (isShare(name)) {
    const at = value => bottom - (bottom - top) * Math.min(1, Math.max(0, value));
    return {at, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], text: v => (v * scale(name)).toFixed(scale(name) === 1 ? 1 : 0)};
  }
  const low = Math.min(0, ...finite), high = Math.max(1, ...finite);
  const bend = value => Math.sign(value) * Math.log1p(Math.abs(value));
  const from = bend(low), to = bend(high) + (values.some(v => v === Infinity) ? 0.4 : 0);
  const clamp = value => value === Infinity ? to : value === -Infinity ? from : bend(value);
  const at = value => bottom - (bottom - top) * (clamp(value) - from) / (to - from || 1);
  const steps = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1e4, 1e5, 1e6];
  const ticks = [...steps.slice(1).map(v => -v), ...steps].filter(v => v >= low && v <= high);
  return {at, ticks, text: v => v >= 1e4 ? v.toExponential(0) : String(v)};
}

function quantile(sorted, share) {
  const rank = share * (sorted.length - 1), low = Math.floor(rank);
  const a = sorted[low], b = sorted[Math.min(low + 1, sorted.length - 1)];
  return a === b ? a : a + (b - a) * (rank - low);
}

function panel(parent, title) {
  const figure = make("figure");
  figure.append(make("figcaption", {}, title));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 360 260");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", title);
  figure.append(svg);
  parent.append(figure);
  return svg;
}

function gridLines(svg, axis) {
  for (const tick of axis.ticks) {
    draw(svg, "line", {class: "grid", x1: 36, x2: 356, y1: axis.at(tick), y2: axis.at(tick)});
    label(svg, 31, axis.at(tick) + 4, axis.text(tick), "end");
  }
}

function drawBoxes() {
  element("boxes").replaceChildren();
  for (const one of chosenMetrics()) drawBoxesOf(one);
}

function drawBoxesOf(shown) {
  const name = shown.name;
  data.regions.forEach((region, r) => {
    const svg = panel(element("boxes"), region + ": " + name);
    const all = data.methods.map((_, m) => shown.values[m][r].map(number));
    const axis = axisOf(all.flat().filter(v => !Number.isNaN(v)), name, 10, 232);
    gridLines(svg, axis);
    const width = 320 / data.methods.length;
    all.forEach((values, m) => {
      const middle = 36 + width * (m + 0.5), half = Math.min(26, width * 0.3);
      values.forEach((value, c) => {
        if (Number.isNaN(value)) return;
        // Spread by the case's place: the same page shows the same picture.
        const x = middle + half * 0.9 * (((c * 0.618034) % 1) * 2 - 1);
        draw(svg, "circle", {class: "dot", cx: x, cy: axis.at(value), r: 2, fill: colour(m), opacity: 0.45,
          "data-case": c}, data.cases[c] + ": " + show(value, name));
      });
      const sorted = values.filter(v => !Number.isNaN(v)).sort((a, b) => a - b);
      if (sorted.length > 0) {
        const [q1, q2, q3] = [0.25, 0.5, 0.75].map(share => quantile(sorted, share));
        const reach = Number.isFinite(q3 - q1) ? 1.5 * (q3 - q1) : Infinity;
        const low = sorted.find(v => v >= q1 - reach), high = sorted.filter(v => v <= q3 + reach).pop();
        const line = {stroke: colour(m), "stroke-width": 1.5};
        draw(svg, "line", {...line, x1: middle, x2: middle, y1: axis.at(low), y2: axis.at(q1)});
        draw(svg, "line", {...line, x1: middle, x2: middle, y1: axis.at(q3), y2: axis.at(high)});
        draw(svg, "rect", {...line, x: middle - half, width: 2 * half, y: axis.at(q3),
          height: Math.max(1, axis.at(q1) - axis.at(q3)), fill: colour(m), "fill-opacity": 0.18},
          data.methods[m] + ", " + region + ": median " + show(q2, name) + ", quartiles " + show(q1, name) +
          " and " + show(q3, name));
        draw(svg, "line", {...line, "stroke-width": 2.5, x1: middle - half, x2: middle + half,
          y1: axis.at(q2), y2: axis.at(q2)});
      }
      const nans = values.filter(Number.isNaN).length;
      const short = data.methods[m].length > 14 ? data.methods[m].slice(0, 13) + "\u2026" : data.methods[m];
      label(svg, middle, 246, short);
      if (nans > 0) label(svg, middle, 258, nans + " without");
    });
  });
}

function diceOf(item) {
  return item.metrics.find(m => m.name === "lesion_dice") || item.metrics.find(m => m.name === "dice");
}

function drawScatter() {
  const parent = element("scatter"), dice = diceOf(convention());
  parent.replaceChildren();
  element("scatter-title").textContent = dice ? "Dice against the reference's volume" : "";
  if (!dice) return;
  data.regions.forEach((region, r) => {
    const volumes = data.volumes[r].map(number), positive = volumes.filter(v => v > 0);
    const svg = panel(parent, region + ": " + dice.name + " against volume (mL)");
    const axis = axisOf([], dice.name, 10, 222);
    gridLines(svg, axis);
    const low = Math.floor(Math.log10(Math.min(...positive, 1))), high = Math.ceil(Math.log10(Math.max(...positive, 1.1)));
    const at = v => v > 0 ? 56 + 294 * (Math.log10(v) - low) / (high - low) : 44;
    for (let power = low; power <= high; ++power) {
      draw(svg, "line", {class: "grid", x1: at(10 ** power), x2: at(10 ** power), y1: 10, y2: 222});
      label(svg, Math.min(at(10 ** power), 346), 238, power < 0 ? (10 ** power).toFixed(-power) : String(10 ** power));
    }
    if (volumes.some(v => v === 0)) label(svg, 44, 252, "none");
    label(svg, 203, 254, "mL");
    data.methods.forEach((method, m) => dice.values[m][r].forEach((raw, c) => {
      const value = number(raw);
      if (Number.isNaN(value) || Number.isNaN(volumes[c])) return;
      draw(svg, "circle", {class: "dot", cx: at(volumes[c]), cy: axis.at(value), r: 3, fill: colour(m), opacity: 0.6,
        "data-case": c}, method + ", " + data.cases[c] + ": Dice " + show(value, dice.name) + ", " + volumes[c] + " mL");
    }));
  });
}

// One row a case and method. Columns are keyed "case", "method" or metric and region.
function columns() {
  const list = [{key: "case", title: "case"}];
  if (data.methods.length > 1) list.push({key: "method", title: "method"});
  const shown = convention().metrics.filter(m => m.main || chosenMetrics().includes(m));
  for (const one of shown) {
    data.regions.forEach((region, r) => list.push({key: one.name + "/" + region, title: region + " " + one.name, metric: one, region: r}));
  }
  return list;
}

function caseRows() {
  const rows = [];
  data.cases.forEach((name, c) => data.methods.forEach((method, m) => {
    if ((name + "\n" + method).toLowerCase().includes(state.filter.toLowerCase())) rows.push({name, method, c, m});
  }));
  const column = columns().find(one => one.key === state.sort);
  if (column) {
    const sign = state.descending ? -1 : 1;
    const value = row => column.metric ? number(column.metric.values[row.m][column.region][row.c]) : column.key === "case" ? row.name : row.method;
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);  // always last
      return x < y ? -sign : x > y ? sign : 0;
    });
  }
  return rows;
}

const pageOfRows = 200;
function drawCases(more) {
  const list = columns(), rows = caseRows();
  state.shown = more ? state.shown + pageOfRows : pageOfRows;
  const head = make("tr");
  for (const column of list) {
    const cell = make("th", column.metric ? {class: "number"} : {}, column.title);
    cell.dataset.key = column.key;
    cell.tabIndex = 0;
    if (column.key === state.sort) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    head.append(cell);
  }
  head.append(make("th", {}, "difference"));
  element("case-table").tHead.replaceChildren(head);
  const body = [];
  for (const row of rows.slice(0, state.shown)) {
    const line = make("tr", {"data-case": row.c});
    const reason = data.unscored[row.m][row.c];
    for (const column of list) {
      if (column.metric) {
        if (reason === undefined) {
          line.append(make("td", {class: "number"}, show(number(column.metric.values[row.m][column.region][row.c]), column.metric.name)));
        }
      } else {
        line.append(make("td", {}, column.key === "case" ? row.name : row.method));
      }
    }
    if (reason !== undefined) {
      line.append(make("td", {class: "unscored", colspan: list.filter(one => one.metric).length + 1}, "not scored: " + reason));
    } else {
      const cell = make("td"), picture = data.pictures[row.m][row.c];
      if (picture) {
        const image = make("img", {loading: "lazy", alt: "where " + row.method + " differs in " + row.name});
        image.src = "data:image/png;base64," + picture;
        image.dataset.title = row.name + ", " + row.method;
        cell.append(image);
      }
      line.append(cell);
    }
    body.push(line);
  }
  element("case-table").tBodies[0].replaceChildren(...body);
  element("count").textContent = rows.length + (rows.length === 1 ? " row" : " rows") + (rows.length > state.shown ? ", " + state.shown + " shown" : "");
  element("more").hidden = rows.length <= state.shown;
}

function fill(select, names, first) {
  select.replaceChildren(...names.map((name, i) => make("option", {value: first + i}, name)));
  select.value = first;
}
function drawAll() {
  drawBoxes();
  drawScatter();
  drawCases(false);
}
function chooseConvention(index) {
  state.convention = index;
  state.metric = -1;
  fill(element("metric"), ["of the table", ...convention().metrics.map(m => m.name)], -1);
  drawAll();
}
function sortBy(key) {
  state.descending = state.sort === key ? !state.descending : false;
  state.sort = key;
  drawCases(false);
}
function chooseCase(index) {
  element("filter").value = state.filter = data.cases[index];
  drawCases(false);
  element("cases").scrollIntoView({behavior: "smooth"});
}

if (data.conventions.length === 0 || data.conventions[0].metrics.length === 0) return;
fill(element("convention"), data.conventions.map(one => one.name), 0);
data.methods.forEach((method, m) => {
  const item = make("span"), mark = make("i");
  mark.style.background = colour(m);
  item.append(mark, method);
  element("legend").append(item);
});
element("convention").addEventListener("change", event => chooseConvention(Number(event.target.value)));
element("metric").addEventListener("change", event => { state.metric = Number(event.target.value); drawAll(); });
element("filter").addEventListener("input", event => { state.filter = event.target.value; drawCases(false); });
element("more").addEventListener("click", () => drawCases(true));
const header = event => event.target.closest("th[data-key]");
element("case-table").addEventListener("click", event => {
  if (header(event)) sortBy(header(event).dataset.key);
  if (event.target.tagName !== "IMG") return;
  element("viewer-image").src = event.target.src;
  element("viewer-title").textContent = event.target.dataset.title;
  element("viewer").showModal();
});
element("case-table").addEventListener("keydown", event => {
  if (event.key === "Enter" && header(event)) sortBy(header(event).dataset.key);
});
element("viewer").addEventListener("click", () => element("viewer").close());
document.addEventListener("click", event => {
  const dot = event.target.closest && event.target.closest("circle[data-case]");
  if (dot) chooseCase(Number(dot.dataset.case));
});
chooseConvention(0);
// A link may ask for an order and a case: report.html#sort=WT%20dice&find=BraTS-GLI-00001
const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.has("find")) element("filter").value = state.filter = wanted.get("find");
if (wanted.has("sort")) state.sort = wanted.get("sort");
state.descending = wanted.get("order") === "descending";
if (wanted.size > 0) drawCases(false);
})();
