"use strict";
// The curves and lines of one pattern of a batch, drawn by Plotly. What is drawn (`selected`, and
// `chosen` of its candidates) and all else of the page is in batch.js.
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);

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

const COLORS = {
  measured: "#d55e00", background: "#009e73", input: "#b8bec8", refined: "#0072b2",
  candidate: "#8b2a78", difference: "#5b6675", second: "#a65f00", added: "#0072b2", removed: "#d55e00",
};
const AMISS = "#b3261e"; // lines that are not seen, peaks that are not explained
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

/** The candidate that is drawn, or null. */
const overlaid = (plot) => (chosen == null ? null : plot.candidates[chosen] || null);

/** Places of the peaks that neither the candidate nor a second phase beside it explains. */
function notExplained(plot) {
  const beside = plot.second ? new Set(plot.second.unexplained) : null;
  return overlaid(plot).unexplained.filter((i) => !beside || beside.has(i));
}

function curves(plot) {
  const of = (name) => plot[name] && onGrid(unpack(plot[name]), plot.runs);
  const angles = unpack(plot.angle);
  const candidate = overlaid(plot);
  const calculated = candidate && unpack(candidate.pattern);
  const beside = candidate && plot.second && unpack(plot.second.pattern);
  const difference = candidate &&
    unpack(plot.refined).map((y, i) => y - calculated[i] - (beside ? beside[i] : 0));
  return [
    { name: "measured", panel: "y", q: angles.map((a) => qOf(a, plot.wavelength)), y: unpack(plot.counts) },
    { name: "background", panel: "y", ...of("background") },
    { name: "input", label: "without background", panel: "y2", ...of("input") },
    ...(plot.refined ? [{ name: "refined", panel: "y2", ...of("refined") }] : []),
    ...(candidate ? [
      { name: "candidate", label: candidateName(), panel: "y2", ...onGrid(calculated, plot.runs) },
      ...(beside ? [{ name: "second", label: plot.second.label, panel: "y2", ...onGrid(beside, plot.runs) }] : []),
      { name: "difference", label: beside ? "refined − both" : "refined − candidate", panel: "y4", ...onGrid(difference, plot.runs) },
    ] : []),
  ];
}

function trace(curve, plot, scale, floor) {
  const at = AXES[choice("axis")].at;
  const shown = {
    linear: (y) => y,
    sqrt: (y) => Math.sqrt(Math.max(y, 0)),
    log: (y) => Math.max(y, floor),
    signed: (y) => Math.sign(y) * Math.sqrt(Math.abs(y)),
  }[curve.panel !== "y4" ? scale : scale === "sqrt" ? "signed" : "linear"];
  const label = curve.label || curve.name;
  return {
    type: "scatter",
    mode: "lines",
    name: label,
    ...(["candidate", "second"].includes(curve.name) && { legendgroup: curve.name }), // with its lines
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
  const candidate = overlaid(plot);
  const matches = plot.sticks.map((stick, index) => ({
    ...stick, label: plain(stick.name) + " (match " + stick.score.toFixed(2) + ")",
    color: STICK_COLORS[index % STICK_COLORS.length], hidden: index > 0 || candidate,
  }));
  const own = candidate ? [{ ...candidate, label: candidateName(), group: "candidate", color: COLORS.candidate }] : [];
  const beside = candidate && plot.second
    ? [{ ...plot.second, group: "second", color: COLORS.second }] : [];
  return [...own, ...beside, ...matches].map((stick) => {
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
      name: stick.label, showlegend: !stick.group, ...(stick.group && { legendgroup: stick.group }),
      visible: stick.hidden ? "legendonly" : true,
      line: { color: stick.color, width: 1.6 },
      hovertemplate: "%{customdata[0]:.1f} %<br>2θ %{customdata[1]:.3f}°, d %{customdata[2]:.4f} Å, " +
        "Q %{customdata[3]:.4f} Å⁻¹<extra></extra>",
    };
  });
}

/** Height of a curve at the point of the grid that is nearest to a place. */
function heightAt(curve, place) {
  const nearest = curve.q.reduce((best, q, i) => (
    q != null && Math.abs(q - place) < Math.abs(curve.q[best] - place) ? i : best), 0);
  return curve.y[nearest];
}

function marks(plot, name, look, yaxis, places, y) {
  const at = AXES[choice("axis")].at;
  return {
    type: "scatter", mode: "markers", name, yaxis, y, x: places.map((place) => at(place, plot.wavelength)),
    marker: { size: 10, ...look, line: { width: 2, color: look.color } }, cliponaxis: false,
    customdata: places.map((place) => [angleOf(place, plot.wavelength), (2 * Math.PI) / place]),
    hovertemplate: name + "<br>2θ %{customdata[0]:.3f}°, d %{customdata[1]:.4f} Å<extra></extra>",
  };
}

/** Marks of the peaks that refining made, and of those that it took away. */
function changeTraces(plot, lines, scale) {
  const refined = lines.find((curve) => curve.name === "refined");
  if (!refined) return [];
  const input = lines.find((curve) => curve.name === "input");
  const shown = { linear: (y) => y, sqrt: (y) => Math.sqrt(Math.max(y, 0)), log: (y) => Math.max(y, 0.05) }[scale];
  const q = (d) => (2 * Math.PI) / d;
  const added = plot.peaks.filter((peak) => !peak[4]).map((peak) => q(peak[1]));
  const removed = plot.removed.map((peak) => q(peak[1]));
  return [
    marks(plot, "added by refining", { symbol: "circle-open", size: 8, color: COLORS.added }, "y2",
      added, added.map((place) => shown(heightAt(refined, place)))),
    marks(plot, "removed by refining", { symbol: "square-open", size: 8, color: COLORS.removed }, "y2",
      removed, removed.map((place) => shown(heightAt(input, place)))),
  ].filter((trace) => trace.x.length);
}

/** Marks of what does not agree with the candidate: its lines without a peak, peaks without a line. */
function markTraces(plot, lines, scale) {
  const candidate = overlaid(plot);
  if (!candidate) return [];
  const [q, intensity] = [decode(candidate.q, Float32Array), unpack(candidate.intensity)];
  const refined = lines.find((curve) => curve.name === "refined");
  const peaks = notExplained(plot).map((i) => (2 * Math.PI) / plot.peaks[i][1]);
  const tops = peaks.map((place) => heightAt(refined, place)).map((y) => (scale === "sqrt" ? Math.sqrt(y) : y));
  return [
    marks(plot, "line not seen", { symbol: "x-thin", color: AMISS }, "y3",
      candidate.unseen.map((i) => q[i]), candidate.unseen.map((i) => intensity[i])),
    marks(plot, "peak not explained", { symbol: "triangle-down-open", color: AMISS }, "y2", peaks, tops),
  ].filter((trace) => trace.x.length);
}

/** Axis of a difference whose largest size is `top`. */
function differenceAxis(scale, top) {
  const shown = scale === "sqrt" ? Math.sqrt : (y) => y;
  const tick = Number((top > 0 ? top : 1).toPrecision(1));
  const limit = 1.15 * shown(Math.max(top, tick));
  return {
    range: [-limit, limit], tickvals: [-shown(tick), 0, shown(tick)], ticktext: ["−" + tick, "0", String(tick)],
  };
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
  const plot = plotOf(selected);
  const [scale, axis] = [choice("scale"), choice("axis")];
  const lines = curves(plot);
  const floors = {};
  const traces = lines.map((curve) => {
    const size = curve.panel === "y4" ? Math.abs : (y) => y;
    const top = largest(lines.filter((c) => c.panel === curve.panel).flatMap((c) => c.y.map(size))) || 1;
    const low = Math.min(...lines[0].y.filter((y) => y > 0)); // of the counts
    const floor = Math.max(top / 2000, curve.panel === "y" ? 0.7 * low : 0);
    floors[curve.panel] = { top, floor };
    return trace(curve, plot, scale, floor);
  });
  const candidate = overlaid(plot);
  const sticks = candidate || plot.sticks.length > 0;
  const narrow = element("plot").clientWidth < 600;
  const look = { zeroline: false, showline: true, linecolor: "#5b6675", gridcolor: "#e9ecf0" };
  const panel = (name, domain, title) => ({
    domain, title: { text: title }, ticks: "outside", ...look,
    ...intensityAxis(scale, floors[name].top, floors[name].floor),
  });
  const domains = candidate ? [[0.66, 1], [0.31, 0.63]] : sticks ? [[0.6, 1], [0.17, 0.57]] : [[0.53, 1], [0, 0.49]];
  const layout = {
    margin: { l: narrow ? 52 : 70, r: 16, t: narrow ? 40 : candidate ? 84 : 64, b: 46 },
    title: { text: plain(selected.name), font: { size: 15 }, x: 0.01, xanchor: "left", y: 1, yref: "container", pad: { t: 12 }, yanchor: "top" },
    legend: narrow ? { orientation: "h", x: 0, y: -0.14, yanchor: "top" }
      : { orientation: "h", x: 1, xanchor: "right", y: 1.01, yanchor: "bottom" },
    hovermode: "closest",
    paper_bgcolor: "#fff",
    plot_bgcolor: "#fff",
    xaxis: {
      title: { text: AXES[axis].title }, anchor: sticks ? "y3" : "y2", showline: true, ticks: "outside",
      linecolor: "#5b6675", gridcolor: "#e9ecf0", zeroline: false,
      autorange: axis === "d" ? "reversed" : true, // in all three, angles grow to the right
    },
    yaxis: panel("y", domains[0], "counts"),
    yaxis2: panel("y2", domains[1], "refined (%)"),
  };
  if (sticks) {
    layout.yaxis3 = {
      domain: [0, 0.14], range: [0, 105], tickvals: [0, 100], title: { text: candidate ? "lines (%)" : "CIF (%)" }, ...look,
    };
  }
  if (candidate) {
    layout.yaxis4 = {
      domain: [0.17, 0.28], title: { text: "diff. (%)" }, ...look, zeroline: true, zerolinecolor: "#aeb7c3",
      ...differenceAxis(scale, floors.y4.top),
    };
  }
  return Plotly.react("plot", [...traces, ...stickTraces(plot), ...changeTraces(plot, lines, scale), ...markTraces(plot, lines, scale)], layout, {
    // Nothing leaves this page: no button that uploads the data to a server of Plotly's.
    showSendToCloud: false, plotlyServerURL: "",
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"],
    toImageButtonOptions: { filename: selected.name, scale: 2 },
  });
}

const save = (format) => Plotly.downloadImage("plot", {
  format, filename: selected.name, width: 1200, height: 700, scale: format === "png" ? 2 : 1,
});

