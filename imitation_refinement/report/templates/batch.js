"use strict";
// The page about a batch of scans: its table. What is known of the pattern that is looked at is
// batch_pattern.js's, its curves batch_plot.js's. Text from files enters as text nodes only.
const plotOf = (row) => JSON.parse((element("plot-" + row.number) || { textContent: "null" }).textContent);

/** The link to the CIF file of a candidate, if it lies beside the page. */
function fileNode(one) {
  if (!one.cif) return [];
  const link = cell("a", one.cif);
  link.href = encodeURIComponent(one.cif);
  link.addEventListener("click", (event) => event.stopPropagation());
  return [link];
}

function markRow(row) {
  for (const line of element("body").children) {
    line.setAttribute("aria-selected", Number(line.dataset.number) === row.number);
  }
}

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

for (const name of data.systems) {
  if (data.rows.some((row) => row.system === name)) element("system").append(cell("option", name));
}
for (const id of ["filter", "verdict", "system"]) element(id).addEventListener("input", drawRows);
drawHead();
drawRows();
if (data.rows.length) select(data.rows.find(plotOf) || data.rows[0]);
