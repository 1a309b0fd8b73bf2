"use strict";
// The page about a batch of scans. Text from files enters as text nodes only.
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const percent = (value) => (value == null ? "" : (100 * value).toFixed(0) + " %");
const fixed = (digits) => (value) => (value == null ? "" : value.toFixed(digits));

const COLUMNS = [
  { title: "name", value: (row) => row.name, kind: "name" },
  { title: "verdict", value: (row) => row.verdict, kind: "verdict" },
  { title: "system", value: (row) => row.system },
  { title: "confidence", value: (row) => row.confidence, show: percent },
  { title: "second", value: (row) => row.second },
  { title: "its share", value: (row) => row.secondProbability, show: percent },
  { title: "change", value: (row) => row.change, show: fixed(4) },
  { title: "CIF", value: (row) => row.match && row.match.name },
  { title: "match", value: (row) => row.match && row.match.score, show: fixed(2) },
  { title: "λ (Å)", value: (row) => row.wavelength, show: fixed(4) },
  { title: "notes", value: (row) => row.notes, kind: "notes" },
].filter((column) => data.rows.some((row) => column.value(row) != null && column.value(row) !== ""));

// --- table ------------------------------------------------------------------------------------

let order = { column: null, direction: 1 };
let selected = null;

function cell(tag, text, className) {
  const node = document.createElement(tag);
  node.textContent = text == null ? "" : text;
  if (className) node.className = className;
  return node;
}

function drawHead() {
  element("columns").replaceChildren(...COLUMNS.map((column) => {
    const head = document.createElement("th");
    const button = cell("button", column.title);
    button.type = "button";
    if (column.show) head.className = "number";
    button.addEventListener("click", () => {
      // Numbers are mostly looked for from the largest down.
      const first = column.show ? -1 : 1;
      order = { column, direction: order.column === column ? -order.direction : first };
      drawHead();
      drawRows();
    });
    if (order.column === column) {
      head.setAttribute("aria-sort", order.direction > 0 ? "ascending" : "descending");
    }
    head.append(button);
    return head;
  }));
}

function compare(one, other) {
  const [a, b] = [order.column.value(one), order.column.value(other)];
  const [blankA, blankB] = [a == null || a === "", b == null || b === ""];
  if (blankA || blankB) return blankA - blankB; // blanks last in both directions
  const sign = typeof a === "number" ? a - b : String(a).localeCompare(b, "en", { numeric: true });
  return order.direction * sign;
}

function visibleRows() {
  const words = element("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [verdict, system] = [element("verdict").value, element("system").value];
  const rows = data.rows.filter((row) => {
    const text = [row.name, row.input, row.verdict, row.system, row.second, row.notes,
      row.match && row.match.name].join(" ").toLowerCase();
    return (!verdict || row.verdict === verdict) && (!system || row.system === system) &&
      words.every((word) => text.includes(word));
  });
  return order.column ? rows.sort(compare) : rows;
}

function drawRows() {
  const rows = visibleRows();
  element("shown").textContent = rows.length + " of " + data.rows.length + " rows";
  element("body").replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    line.tabIndex = 0;
    line.dataset.number = row.number;
    line.setAttribute("aria-selected", row === selected);
    for (const column of COLUMNS) {
      const value = column.value(row);
      if (column.kind === "verdict") {
        const tag = cell("span", value, "tag " + String(value).replace(/\W+/g, "-"));
        const box = document.createElement("td");
        box.append(tag);
        line.append(box);
      } else {
        line.append(cell("td", column.show ? column.show(value) : value,
          column.show ? "number" : column.kind));
      }
    }
    line.addEventListener("click", () => select(row));
    line.addEventListener("keydown", (event) => {
      const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      const target = event.key === "Enter" ? line : step && line[step];
      if (!target) return;
      event.preventDefault();
      target.focus();
      target.click();
    });
    return line;
  }));
}

// --- one pattern ------------------------------------------------------------------------------

function decode(text, Numbers) {
  const raw = atob(text);
  const bytes = Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
  return Array.from(new Numbers(bytes.buffer));
}

const unpack = (packed) =>
  decode(packed.levels, Uint16Array).map((level) => packed.low + packed.step * level);

const GRID_Q = decode(data.q, Float32Array);
const angleOf = (q, wavelength) =>
  (360 / Math.PI) * Math.asin(Math.min(1, (q * wavelength) / (4 * Math.PI)));
const qOf = (angle, wavelength) =>
  ((4 * Math.PI) / wavelength) * Math.sin((angle * Math.PI) / 360);

const AXES = {
  two_theta: { title: "2θ (degrees)", at: (q, wavelength) => angleOf(q, wavelength) },
  d: { title: "d (Å)", at: (q) => (2 * Math.PI) / q },
  q: { title: "Q = 2π/d (1/Å)", at: (q) => q },
};

const COLORS = { measured: "#d55e00", background: "#009e73", input: "#b8bec8", refined: "#0072b2" };
const STICK_COLORS = ["#1c2430", "#cc79a7", "#e69f00"];
// Plotly reads some HTML in names; what comes from files must not be read so.
const plain = (text) =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const choice = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

/** Places of the grid that were measured, with a null between two stretches of them. */
function onGrid(values, stretches) {
  const [q, y] = [[], []];
  let next = 0;
  for (const [start, stop] of stretches) {
    if (q.length) {
      q.push(null);
      y.push(null);
    }
    for (let i = start; i < stop; i++) {
      q.push(GRID_Q[i]);
      y.push(values[next++]);
    }
  }
  return { q, y };
}

function curves(plot) {
  const of = (name) => plot[name] && onGrid(unpack(plot[name]), plot.runs);
  const angles = unpack(plot.angle);
  return [
    { name: "measured", panel: "y", q: angles.map((a) => qOf(a, plot.wavelength)), y: unpack(plot.counts) },
    { name: "background", panel: "y", ...of("background") },
    { name: "input", label: "without background", panel: "y2", ...of("input") },
    ...(plot.refined ? [{ name: "refined", panel: "y2", ...of("refined") }] : []),
  ];
}

function trace(curve, plot, scale, floor) {
  const at = AXES[choice("axis")].at;
  const shown = {
    linear: (y) => y,
    sqrt: (y) => Math.sqrt(Math.max(y, 0)),
    log: (y) => Math.max(y, floor),
  }[scale];
  const label = curve.label || curve.name;
  return {
    type: "scatter",
    mode: "lines",
    name: label,
    yaxis: curve.panel,
    x: curve.q.map((q) => (q == null ? null : at(q, plot.wavelength))),
    y: curve.y.map((y) => (y == null ? null : shown(y))),
    customdata: curve.q.map((q, i) => (q == null ? null :
      [curve.y[i], angleOf(q, plot.wavelength), (2 * Math.PI) / q, q])),
    hovertemplate: label + " %{customdata[0]:.4~g}<br>2θ %{customdata[1]:.3f}°, " +
      "d %{customdata[2]:.4f} Å, Q %{customdata[3]:.4f} Å⁻¹<extra></extra>",
    line: { color: COLORS[curve.name], width: curve.name === "background" ? 1.6 : 1.1 },
    connectgaps: false,
  };
}

function stickTraces(plot) {
  const at = AXES[choice("axis")].at;
  return plot.sticks.map((stick, index) => {
    const [q, intensity] = [decode(stick.q, Float32Array), unpack(stick.intensity)];
    const [x, y, hover] = [[], [], []];
    q.forEach((line, i) => {
      const place = at(line, plot.wavelength);
      x.push(place, place, null);
      y.push(0, intensity[i], null);
      const values = [intensity[i], angleOf(line, plot.wavelength), (2 * Math.PI) / line, line];
      hover.push(values, values, null);
    });
    return {
      type: "scatter", mode: "lines", x, y, yaxis: "y3", customdata: hover,
      name: plain(stick.name) + " (match " + stick.score.toFixed(2) + ")",
      visible: index ? "legendonly" : true,
      line: { color: STICK_COLORS[index % STICK_COLORS.length], width: 1.6 },
      hovertemplate: "%{customdata[0]:.1f} %<br>2θ %{customdata[1]:.3f}°, d %{customdata[2]:.4f} Å, " +
        "Q %{customdata[3]:.4f} Å⁻¹<extra></extra>",
    };
  });
}

/** Range and ticks of an intensity axis for values up to `top`. */
function intensityAxis(scale, top, floor) {
  top = top > 0 ? top : 1;
  if (scale === "linear") return { range: [0, 1.06 * top] };
  if (scale === "log") {
    return { type: "log", range: [Math.log10(floor), Math.log10(1.5 * top)], dtick: 1, exponentformat: "power" };
  }
  const unit = 10 ** Math.floor(Math.log10(top));
  const ticks = [0, 0.02, 0.1, 0.3, 0.6, 1, 2, 3, 5, 7, 9].map((t) => t * unit)
    .filter((t) => t <= top).filter((t, i, all) => i === 0 || Math.sqrt(t) - Math.sqrt(all[i - 1]) > 0.09 * Math.sqrt(top));
  return {
    range: [0, 1.03 * Math.sqrt(top)],
    tickvals: ticks.map(Math.sqrt),
    ticktext: ticks.map((t) => String(Number(t.toPrecision(2)))),
  };
}

const largest = (values) => values.reduce((top, y) => (y > top ? y : top), 0);

// Plotly loses a change that comes while it is still drawing, so drawings wait for each other.
let drawing = Promise.resolve();
let waiting = false;

function draw() {
  if (waiting) return;
  waiting = true;
  drawing = drawing.then(() => {
    waiting = false;
    return drawNow();
  });
}

function drawNow() {
  const plot = JSON.parse(element("plot-" + selected.number).textContent);
  const [scale, axis] = [choice("scale"), choice("axis")];
  const lines = curves(plot);
  const floors = {};
  const traces = lines.map((curve) => {
    const top = largest(lines.filter((c) => c.panel === curve.panel).flatMap((c) => c.y)) || 1;
    const low = Math.min(...lines[0].y.filter((y) => y > 0)); // of the counts
    const floor = Math.max(top / 2000, curve.panel === "y" ? 0.7 * low : 0);
    floors[curve.panel] = { top, floor };
    return trace(curve, plot, scale, floor);
  });
  const sticks = plot.sticks.length > 0;
  const panel = (name, domain, title) => ({
    domain, title: { text: title }, zeroline: false, showline: true, linecolor: "#5b6675", ticks: "outside",
    gridcolor: "#e9ecf0", ...intensityAxis(scale, floors[name].top, floors[name].floor),
  });
  const layout = {
    margin: { l: 70, r: 16, t: 64, b: 46 },
    title: { text: plain(selected.name), font: { size: 15 }, x: 0.01, xanchor: "left", y: 1, yref: "container", pad: { t: 12 }, yanchor: "top" },
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1.01, yanchor: "bottom" },
    hovermode: "closest",
    paper_bgcolor: "#fff",
    plot_bgcolor: "#fff",
    xaxis: {
      title: { text: AXES[axis].title }, anchor: sticks ? "y3" : "y2", showline: true, ticks: "outside",
      linecolor: "#5b6675", gridcolor: "#e9ecf0", zeroline: false,
      autorange: axis === "d" ? "reversed" : true, // in all three, angles grow to the right
    },
    yaxis: panel("y", sticks ? [0.6, 1] : [0.53, 1], "counts"),
    yaxis2: panel("y2", sticks ? [0.17, 0.57] : [0, 0.49], "refined (%)"),
  };
  if (sticks) {
    layout.yaxis3 = {
      domain: [0, 0.14], range: [0, 105], tickvals: [0, 100], title: { text: "CIF (%)" },
      showline: true, linecolor: "#5b6675", gridcolor: "#e9ecf0", zeroline: false,
    };
  }
  return Plotly.react("plot", [...traces, ...stickTraces(plot)], layout, {
    // Nothing leaves this page: no button that uploads the data to a server of Plotly's.
    showSendToCloud: false, plotlyServerURL: "",
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"],
    toImageButtonOptions: { filename: selected.name, scale: 2 },
  });
}

const save = (format) => Plotly.downloadImage("plot", {
  format, filename: selected.name, width: 1200, height: 700, scale: format === "png" ? 2 : 1,
});

function fact(name, value) {
  const line = document.createElement("tr");
  line.append(cell("td", name), cell("td", value));
  return line;
}

function select(row) {
  selected = row;
  for (const line of element("body").children) {
    line.setAttribute("aria-selected", Number(line.dataset.number) === row.number);
  }
  element("pattern").hidden = false;
  element("title").textContent = row.name;
  element("answer").textContent = (row.system ? row.system + ", " + percent(row.confidence) + ", " : "") +
    row.verdict + (row.notes ? ": " + row.notes : "");
  const drawn = element("plot-" + row.number) !== null;
  element("view").hidden = !drawn;
  element("details").hidden = row.verdict === "failed";
  element("noplot").hidden = drawn || row.verdict === "failed";
  const classes = row.refined ? data.classes.map((name, k) => k) : [];
  classes.sort((a, b) => row.refined[b] - row.refined[a]);
  element("classes").replaceChildren(...classes.map((k) => {
    const line = document.createElement("tr");
    line.append(cell("td", data.classes[k]));
    for (const kind of ["raw", "refined"]) {
      const box = document.createElement("td");
      const bar = cell("span", "", "bar " + kind);
      bar.style.width = Math.round(50 * row[kind][k]) + "px";
      box.append(bar, percent(row[kind][k]));
      line.append(box);
    }
    line.append(cell("td", fixed(3)(row.distances[k]), "number"));
    return line;
  }));
  element("facts").replaceChildren(fact("file", row.input), ...(row.refined ? [
    fact("wavelength", Number(row.wavelength.toFixed(5)) + " Å, from the " + row.wavelengthSource),
    fact("Kα2", row.kAlpha2),
    fact("2θ", row.range[0] + "° to " + row.range[1] + "°"),
    fact("covered of the range", percent(row.covered)),
    fact("change", fixed(4)(row.change) + " per point on average (largest value 1)"),
  ] : []));
  const plot = drawn ? JSON.parse(element("plot-" + row.number).textContent) : { peaks: [], allPeaks: 0 };
  element("peaks").replaceChildren(...plot.peaks.map((peak) => {
    const line = document.createElement("tr");
    peak.slice(0, 4).forEach((value, i) =>
      line.append(cell("td", fixed([3, 4, 1, 3][i])(value), "number")));
    line.append(cell("td", peak[4] ? "yes" : "no"));
    return line;
  }));
  element("morepeaks").textContent = plot.allPeaks > plot.peaks.length
    ? "the strongest " + plot.peaks.length + " of " + plot.allPeaks + "; all are in the file " + row.name + ".peaks.csv" : "";
  if (drawn) draw();
}

for (const name of data.classes) {
  if (data.rows.some((row) => row.system === name)) element("system").append(cell("option", name));
}
for (const id of ["filter", "verdict", "system"]) element(id).addEventListener("input", drawRows);
for (const box of document.querySelectorAll('input[type="radio"]')) box.addEventListener("change", draw);
element("png").addEventListener("click", () => save("png"));
element("svg").addEventListener("click", () => save("svg"));
drawHead();
drawRows();
if (data.rows.length) select(data.rows.find((row) => element("plot-" + row.number)) || data.rows[0]);
