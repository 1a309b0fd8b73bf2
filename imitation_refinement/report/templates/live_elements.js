"use strict";
// The periodic table: what a sample must, may and must not hold. Its text is that of --elements.
const STATES = [["", "unknown", ""], ["must", "must occur", "+"], ["may", "may occur, and no others", "•"], ["not", "must not occur", "−"]];
const SIGNS = { must: "+", may: "", not: "-" };

/** Row and column of an element, from 1; lanthanides and actinides stand below. */
function placeOf(z) {
  if (z >= 57 && z <= 71) return [9, z - 53];
  if (z >= 89 && z <= 103) return [10, z - 85];
  const starts = [[87, 7], [55, 6], [37, 5], [19, 4], [11, 3], [3, 2], [1, 1]];
  const [start, row] = starts.find(([first]) => z >= first);
  const column = z - start + 1;
  if (row === 1) return [1, z === 2 ? 18 : 1];
  if (row < 4) return [row, column > 2 ? column + 10 : column];
  return [row, row < 6 || column < 3 ? column : column - 14];
}

const cells = new Map(); // by symbol
let ranking = 0; // number of the latest question

/** States by symbol, of a text. */
function statesOf(text) {
  const found = {};
  for (const word of text.split(/[\s,;]+/).filter(Boolean)) {
    const sign = /^[+-]/.test(word) ? word[0] : "";
    found[word.slice(sign.length)] = { "+": "must", "-": "not", "": "may" }[sign];
  }
  return found;
}

function textOf(states) {
  return data.symbols.filter((symbol) => states[symbol]).map((symbol) => SIGNS[states[symbol]] + symbol).join(" ");
}

function showElements() {
  const text = current ? current.file.elements : "";
  const states = statesOf(text);
  for (const [symbol, node] of cells) {
    const [name, words, mark] = STATES.find(([key]) => key === (states[symbol] || ""));
    node.className = name;
    node.textContent = mark + symbol;
    node.setAttribute("aria-label", symbol + ": " + words);
  }
  if (document.activeElement !== element("elements-text")) element("elements-text").value = text;
  element("asked-words").textContent = text ? text : "nothing is known";
}

/** Ranks the phases of what is looked at anew, and keeps the elements for its file, or for all. */
async function rank(text, all = false) {
  const [pattern, number, start] = [current, ++ranking, performance.now()];
  const some = all ? [...files.values()] : [pattern.file];
  const before = new Map(some.map((file) => [file, file.elements]));
  for (const file of some) file.elements = text;
  showElements();
  try {
    const found = await told("elements", { ...asked(), elements: text, all });
    if (number !== ranking) return;
    put(pattern, found);
    element("ranked").textContent = "ranked in " + ((performance.now() - start) / 1000).toFixed(2) + " s";
  } catch (error) {
    for (const file of some) file.elements = before.get(file);
    showElements();
    element("ranked").textContent = "";
    failed(error);
    return;
  }
  const others = some.flatMap((file) => file.patterns).filter((one) => one !== pattern);
  askAgain(others);
  showCommand();
}

function step(node, [down, right]) {
  let [row, column] = node.dataset.place.split(" ").map(Number);
  for (let tries = 0; tries < 18; tries++) {
    [row, column] = [row + down, column + right];
    const found = [...cells.values()].find((one) => one.dataset.place === row + " " + column);
    if (found) {
      node.tabIndex = -1;
      found.tabIndex = 0;
      found.focus();
      return;
    }
  }
}

data.symbols.forEach((symbol, z) => {
  if (!symbol) return;
  const node = button(symbol, () => {
    const states = statesOf(current.file.elements);
    const index = STATES.findIndex(([key]) => key === (states[symbol] || ""));
    states[symbol] = STATES[(index + 1) % STATES.length][0];
    rank(textOf(states));
  });
  const [row, column] = placeOf(z);
  node.style.gridRow = row;
  node.style.gridColumn = column;
  node.dataset.place = row + " " + column;
  node.tabIndex = z === 1 ? 0 : -1;
  node.addEventListener("keydown", (event) => {
    const way = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    step(node, way);
  });
  cells.set(symbol, node);
});
// In the order of places, so that reading goes through the table row by row.
element("elements").append(...[...cells.values()].sort((a, b) => {
  const [one, other] = [a, b].map((node) => node.dataset.place.split(" ").map(Number));
  return one[0] - other[0] || one[1] - other[1];
}));
element("elements-text").addEventListener("change", (event) => rank(event.target.value.trim()));
element("elements-clear").addEventListener("click", () => rank(""));
element("elements-all").addEventListener("click", () => rank(current.file.elements, true));
element("candidates").addEventListener("looked", () => {
  element("asked").hidden = !data.library || !current || !current.row;
  if (current) showElements();
});
