"use strict";
// One pattern of a page: the candidates, peaks and systems of what is `selected`. Its curves are
// batch_plot.js's. Text from files enters as text nodes only. The page that includes this says where
// the curves of a row are (`plotOf`) and how a candidate's CIF file is had (`fileNode`).
const percent = (value) => (value == null ? "" : (100 * value).toFixed(0) + " %");
const fixed = (digits) => (value) => (value == null ? "" : value.toFixed(digits));


const refiners = {
  phases: "the refiner of phases: as if it were counted longer",
  model: "the model",
};
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

// --- candidate phases -------------------------------------------------------------------------

function shortName(one) {
  const name = phaseName(one);
  return plain(name.length > 30 ? name.slice(0, 29) + "…" : name);
}

const SHOWN_PEAKS = 8;  // of those that no phase explains

const candidateName = () => shortName(selected.candidates[chosen]);

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
  file.append(...fileNode(one, index));
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
  sayTogether(row);
  markCandidate(plot);
}

/** Says how the likeliest phases fit together, and which peaks are none of theirs. */
function sayTogether(row) {
  const shares = row.shares || [], peaks = row.leftOver || [];
  const names = [row.candidates, ...(row.further || [])].map((phases) => phases && phases[0] && phases[0].formula);
  element("shares").textContent = shares.length
    ? "Fitted together, of the calculated intensity (which is no share of mass) " +
      shares.map((share, i) => names[i] + " has " + percent(share)).join(", ") + "." : "";
  const shown = peaks.slice(0, SHOWN_PEAKS).map((angle) => angle.toFixed(2) + "°").join(", ");
  element("unexplained").textContent = !shares.length ? "" : !peaks.length
    ? "No peak is left over." : "Peaks left over, the strongest first: 2θ = " + shown +
      (peaks.length > SHOWN_PEAKS ? " and " + (peaks.length - SHOWN_PEAKS) + " more." : ".");
}

/** Draws a candidate, or takes away the one that is drawn. */
function chooseCandidate(index) {
  chosen = chosen === index ? null : index;
  const plot = plotOf(selected);
  markCandidate(plot);
  drawPeaks(selected, plot);
  draw();
}

function markCandidate(plot) {
  sayAgreement(plot);
  element("candidates").dispatchEvent(new Event("marked"));
}

function sayAgreement(plot) {
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
    one.unseen.map((i) => angleOf(q[i], plot.wavelength)), notExplained(plot).map((i) => plot.peaks[i][0])];
  const cell = selected.candidates[chosen].cell;
  element("agreement").textContent = "Drawn: " + phaseName(selected.candidates[chosen]) + ". " +
    (cell ? "Its cell fitted to this scan: " + cell + ". " : "") +
    (unseen.length ? "Lines that should be seen and are not (✕): 2θ " + list(unseen) + ". "
      : "All its lines that should be seen are there. ") +
    (unexplained.length ? "Peaks that " + (plot.second ? "neither explains" : "it does not explain") + " (▽): 2θ " + list(unexplained) + "."
      : (plot.second ? "Both explain all peaks." : "It explains all peaks."));
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
    if (one) line.append(cell("td", notExplained(plot).includes(number) ? "no" : "yes"));
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
  markRow(row);
  element("pattern").hidden = false;
  element("title").textContent = row.name;
  element("answer").replaceChildren(...answerNodes(row));
  const drawn = plotOf(row) !== null;
  element("view").hidden = !drawn;
  element("details").hidden = row.verdict === "failed";
  element("noplot").hidden = drawn || row.verdict === "failed";
  drawSystems(row);
  element("facts").replaceChildren(fact("file", row.input), ...(row.refined ? [
    fact("wavelength", Number(row.wavelength.toFixed(5)) + " Å, from the " + row.wavelengthSource),
    fact("Kα2", row.kAlpha2),
    fact("2θ", row.range[0] + "° to " + row.range[1] + "°"),
    fact("covered of the range", percent(row.covered)),
    ...(row.refiner ? [fact("refined by", refiners[row.refiner])] : []),
    fact("change", fixed(4)(row.change) + " per point on average (largest value 1)"),
  ] : []));
  const plot = plotOf(row) || { peaks: [], allPeaks: 0 };
  drawCandidates(row, plot);
  drawPeaks(row, plot);
  if (drawn) draw();
}

for (const box of document.querySelectorAll('#pattern input[type="radio"]')) box.addEventListener("change", draw);
element("png").addEventListener("click", () => save("png"));
element("svg").addEventListener("click", () => save("svg"));
