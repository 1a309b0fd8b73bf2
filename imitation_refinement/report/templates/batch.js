"use strict";
// The page about a batch of scans: table, candidate phases, and what is known of the pattern that
// is looked at; its curves are batch_plot.js's. Text from files enters as text nodes only.
const percent = (value) => (value == null ? "" : (100 * value).toFixed(0) + " %");
const fixed = (digits) => (value) => (value == null ? "" : value.toFixed(digits));

const COLUMNS = [
  { title: "name", value: (row) => row.name, kind: "name" },
  { title: "verdict", value: (row) => row.verdict, kind: "verdict" },
  { title: "system", value: (row) => row.system },
  { title: "confidence", value: (row) => row.confidence, show: percent },
  { title: "space group", value: (row) => row.spaceGroup, nodes: groupNodes, kind: "group" },
  { title: "formula", value: (row) => row.formula, nodes: (row) => formulaNodes(row.formula), kind: "name" },
  { title: "mineral", value: (row) => row.mineral },
  { title: "phase", value: (row) => row.phaseProbability, show: percent },
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
let selected = null; // row
let chosen = null; // place of the candidate that is drawn

function cell(tag, text, className) {
  const node = document.createElement(tag);
  node.textContent = text == null ? "" : text;
  if (className) node.className = className;
  return node;
}

/** Parts of a text, those in the group of `pattern` as subscripts. */
function withSubscripts(text, pattern) {
  return String(text).split(pattern).map((part, i) => (i % 2 ? cell("sub", part) : part));
}

function formulaNodes(formula) {
  return formula ? withSubscripts(formula, /(\d+(?:\.\d+)?)/) : [];
}

function groupNodes(one) {
  return one.spaceGroup ? [...withSubscripts(one.spaceGroupSymbol, /_(\d)/), " (" + one.spaceGroup + ")"] : [];
}

const plainGroup = (one) => (one.spaceGroupSymbol || "").replace("_", "");
const phaseName = (one) => one.formula + (one.mineral ? " (" + one.mineral + ")" : "");

function boxOf(nodes, className) {
  const box = cell("td", "", className);
  box.append(...nodes);
  return box;
}

/** A row of a table is chosen by a click or by Enter, and the arrows go to its neighbours. */
function chosenBy(line, choose) {
  line.tabIndex = 0;
  line.addEventListener("click", choose);
  line.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const target = event.key === "Enter" ? line : step && line[step];
    if (!target || event.target !== line) return;
    event.preventDefault();
    target.focus();
    target.click();
  });
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
      row.formula, row.mineral, row.spaceGroup, plainGroup(row), row.match && row.match.name].join(" ").toLowerCase();
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
    line.dataset.number = row.number;
    line.setAttribute("aria-selected", row === selected);
    for (const column of COLUMNS) {
      const value = column.value(row);
      if (column.kind === "verdict") {
        const tag = cell("span", value, "tag " + String(value).replace(/\W+/g, "-"));
        const box = document.createElement("td");
        box.append(tag);
        line.append(box);
      } else if (column.nodes) {
        line.append(boxOf(column.nodes(row), column.kind));
      } else {
        line.append(cell("td", column.show ? column.show(value) : value,
          column.show ? "number" : column.kind));
      }
    }
    chosenBy(line, () => select(row));
    return line;
  }));
}

// --- candidate phases -------------------------------------------------------------------------

function candidateName() {
  const name = phaseName(selected.candidates[chosen]);
  return plain(name.length > 30 ? name.slice(0, 29) + "…" : name);
}

function candidateCells(one, rank) {
  return [
    cell("td", rank, "number"), boxOf(formulaNodes(one.formula), "name"), cell("td", one.mineral),
    boxOf(groupNodes(one), "group"), cell("td", percent(one.probability), "number"),
  ];
}

/** A row of the table of candidates; `drawn` of them can be laid over the pattern. */
function candidateRow(one, index, drawn) {
  const line = document.createElement("tr");
  const file = cell("td", "", "file");
  if (one.cif) {
    const link = cell("a", one.cif);
    link.href = encodeURIComponent(one.cif);
    link.addEventListener("click", (event) => event.stopPropagation());
    file.append(link);
  }
  line.append(
    ...candidateCells(one, index + 1), cell("td", percent(one.explained), "number"),
    cell("td", percent(one.missing), "number"), cell("td", percent(one.leftOver), "number"),
    cell("td", fixed(2)(one.shift), "number"), cell("td", one.members, "number"), cell("td", one.source, "source"), file,
  );
  if (index < drawn) {
    chosenBy(line, () => chooseCandidate(index));
    line.setAttribute("aria-selected", false);
  } else {
    line.className = "undrawn";
  }
  return line;
}

function furtherRows(row) {
  return (row.further || []).flatMap((phases, number) => phases.map((one, i) => {
    const line = document.createElement("tr");
    line.append(cell("td", i ? "" : ["second", "third"][number]), ...candidateCells(one, i + 1));
    return line;
  }));
}

function drawCandidates(row, plot) {
  const candidates = row.candidates || [];
  const drawn = plot.candidates ? plot.candidates.length : 0;
  chosen = drawn ? 0 : null;
  element("candidates").hidden = !candidates.length;
  element("candidate-rows").replaceChildren(...candidates.map((one, i) => candidateRow(one, i, drawn)));
  element("absent").textContent = row.notInLibrary == null ? ""
    : "not in the library: " + percent(row.notInLibrary);
  const further = furtherRows(row);
  element("further").hidden = !further.length;
  element("further-rows").replaceChildren(...further);
  element("left").textContent = further.length
    ? "No one phase of the library explains this pattern: the first leaves " + percent(candidates[0].leftOver) +
      " of it. What may be in the rest:" : "";
  markCandidate(plot);
}

/** Draws a candidate, or takes away the one that is drawn. */
function chooseCandidate(index) {
  chosen = chosen === index ? null : index;
  const plot = JSON.parse(element("plot-" + selected.number).textContent);
  markCandidate(plot);
  drawPeaks(selected, plot);
  draw();
}

function markCandidate(plot) {
  [...element("candidate-rows").children].forEach((line, i) => {
    if (line.className !== "undrawn") line.setAttribute("aria-selected", i === chosen);
  });
  const one = chosen == null ? null : plot.candidates[chosen];
  if (!one) {
    element("agreement").textContent = plot.candidates && plot.candidates.length
      ? "No candidate is drawn; choose one of the first " + plot.candidates.length + "." : "";
    return;
  }
  const q = decode(one.q, Float32Array);
  const list = (angles) => angles.slice(0, 8).map((angle) => angle.toFixed(2) + "°").join(", ") +
    (angles.length > 8 ? " and " + (angles.length - 8) + " more" : "");
  const [unseen, unexplained] = [
    one.unseen.map((i) => angleOf(q[i], plot.wavelength)), one.unexplained.map((i) => plot.peaks[i][0])];
  element("agreement").textContent = "Drawn: " + phaseName(selected.candidates[chosen]) + ". " +
    (unseen.length ? "Lines that should be seen and are not (✕): 2θ " + list(unseen) + ". "
      : "All its lines that should be seen are there. ") +
    (unexplained.length ? "Peaks that it does not explain (▽): 2θ " + list(unexplained) + "."
      : "It explains all peaks.");
}

// --- one pattern ------------------------------------------------------------------------------

function drawPeaks(row, plot) {
  const one = plot.candidates && chosen != null ? plot.candidates[chosen] : null;
  element("explained").hidden = !one;
  element("peaks").replaceChildren(...plot.peaks.map((peak, number) => {
    const line = document.createElement("tr");
    peak.slice(0, 4).forEach((value, i) =>
      line.append(cell("td", fixed([3, 4, 1, 3][i])(value), "number")));
    line.append(cell("td", peak[4] ? "yes" : "no"));
    if (one) line.append(cell("td", one.unexplained.includes(number) ? "no" : "yes"));
    return line;
  }));
  element("morepeaks").textContent = plot.allPeaks > plot.peaks.length
    ? "the strongest " + plot.peaks.length + " of " + plot.allPeaks + "; all are in the file " + row.name + ".peaks.csv" : "";
}

/** Bars of the crystal systems: the library's, else those of the classifier, raw and refined. */
function drawSystems(row) {
  const [names, kinds] = row.systems ? [data.systems, ["systems"]] : [data.classes, ["raw", "refined"]];
  const last = kinds[kinds.length - 1];
  const heads = row.systems ? ["probability"] : [...kinds, "distance"];
  element("system-heads").replaceChildren(...["system", ...heads].map((title) => {
    const head = cell("th", title, title === "distance" ? "number" : "");
    if (title === "distance") head.title = "of the embedding of the refined pattern to the prototype of the class";
    return head;
  }));
  const ranked = row[last] ? names.map((name, k) => k) : [];
  ranked.sort((a, b) => row[last][b] - row[last][a]);
  element("classes").replaceChildren(...ranked.map((k) => {
    const line = document.createElement("tr");
    line.append(cell("td", names[k]));
    for (const kind of kinds) {
      const bar = cell("span", "", "bar " + kind);
      bar.style.width = Math.round(50 * row[kind][k]) + "px";
      line.append(boxOf([bar, percent(row[kind][k])]));
    }
    if (!row.systems) line.append(cell("td", fixed(3)(row.distances[k]), "number"));
    return line;
  }));
}

/** The answer in a line: `cubic 62 %, Fd-3m (227), Si (Silicon) 41 %: ambiguous; ...`. */
function answerNodes(row) {
  const parts = [];
  if (row.system) parts.push([row.system + " " + percent(row.confidence)]);
  if (row.spaceGroup) parts.push(groupNodes(row));
  if (row.formula) {
    parts.push([...formulaNodes(row.formula), (row.mineral ? " (" + row.mineral + ") " : " ") + percent(row.phaseProbability)]);
  }
  parts.push([row.verdict + (row.notes ? ": " + row.notes : "")]);
  return parts.flatMap((part, i) => (i ? [", ", ...part] : part));
}

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
  element("answer").replaceChildren(...answerNodes(row));
  const drawn = element("plot-" + row.number) !== null;
  element("view").hidden = !drawn;
  element("details").hidden = row.verdict === "failed";
  element("noplot").hidden = drawn || row.verdict === "failed";
  drawSystems(row);
  element("facts").replaceChildren(fact("file", row.input), ...(row.refined ? [
    fact("wavelength", Number(row.wavelength.toFixed(5)) + " Å, from the " + row.wavelengthSource),
    fact("Kα2", row.kAlpha2),
    fact("2θ", row.range[0] + "° to " + row.range[1] + "°"),
    fact("covered of the range", percent(row.covered)),
    fact("change", fixed(4)(row.change) + " per point on average (largest value 1)"),
  ] : []));
  const plot = drawn ? JSON.parse(element("plot-" + row.number).textContent) : { peaks: [], allPeaks: 0 };
  drawCandidates(row, plot);
  drawPeaks(row, plot);
  if (drawn) draw();
}

for (const name of data.systems) {
  if (data.rows.some((row) => row.system === name)) element("system").append(cell("option", name));
}
for (const id of ["filter", "verdict", "system"]) element(id).addEventListener("input", drawRows);
for (const box of document.querySelectorAll('input[type="radio"]')) box.addEventListener("change", draw);
element("png").addEventListener("click", () => save("png"));
element("svg").addEventListener("click", () => save("svg"));
drawHead();
drawRows();
if (data.rows.length) select(data.rows.find((row) => element("plot-" + row.number)) || data.rows[0]);
