"use strict";
// The live page: files that are dropped, how they were read, and the queue of questions about them.
// One pattern is batch_pattern.js's and live_look.js's, elements are live_elements.js's. Text from
// files enters as text nodes only.
const SESSION = document.querySelector('meta[name="session"]').content;
const AT_ONCE = 2; // requests that wait for answers; what is looked at comes in between
const NAMES = { CuKa: "Cu Kα", CoKa: "Co Kα", MoKa: "Mo Kα" };

const patterns = new Map(); // by number: what is known of each
const files = new Map(); // by identifier: what was told of each
let last = 0; // number that was given last
let current = null; // the pattern that is looked at

const plotOf = (row) => (patterns.get(row.number) || {}).plot || null;

/** Asks the server; an error of it is thrown as its line. */
async function ask(name, body = {}, how = { method: "POST" }) {
  const json = how.method === "POST" && how.body === undefined;
  const answer = await fetch("/api/" + name, {
    ...how, body: json ? JSON.stringify(body) : how.body, headers: { "X-Session": SESSION },
  }).catch(() => { throw new Error("the program does not answer; is it still running?"); });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(said.error || "failed (" + answer.status + ")"), { status: answer.status });
}

const told = async (...question) => (await ask(...question)).json();

function say(text, trouble = false) {
  element("message").textContent = text;
  element("message").classList.toggle("trouble", trouble);
}

const failed = (error) => say(error.message, true);

function button(text, work, label) {
  const node = cell("button", text);
  node.type = "button";
  if (label) node.setAttribute("aria-label", label);
  node.addEventListener("click", (event) => {
    event.stopPropagation();
    work();
  });
  return node;
}

/** Saves an answer as a file. */
async function keep(answer) {
  const name = /filename="(.*)"/.exec(answer.headers.get("Content-Disposition"))[1];
  const link = cell("a", "");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// --- progress ---------------------------------------------------------------------------------

const counts = { all: 0, done: 0 };

function count(all, done) {
  counts.all += all;
  counts.done += done;
  if (counts.done >= counts.all) counts.all = counts.done = 0;
  element("progress").hidden = counts.all < 2;
  element("bar").value = counts.all ? counts.done / counts.all : 1;
  element("counted").textContent = counts.done + " of " + counts.all;
}

// --- files ------------------------------------------------------------------------------------

const naturally = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });

/** Of a folder, files that are named as scans or structures are; a file by itself in any case. */
function isMeant(one) {
  const name = one.name.split("/").pop().toLowerCase();
  if (!one.name.includes("/")) return true;
  return !name.startsWith(".") && (!name.includes(".") || data.endings.some((ending) => name.endsWith(ending)));
}

/** Takes in files, {name, file} each, one after the other; the others go on when one fails. */
async function take(found) {
  const seen = found.filter(isMeant).sort(naturally);
  const left = found.length - seen.length;
  if (!seen.length) return say("Nothing to read was dropped.", true);
  say(left ? left + " files of the folder are named as no scans are, and were left out." : "");
  count(seen.length, 0);
  let structures = 0;
  const trouble = [];
  for (const one of seen) {
    try {
      const how = { method: "PUT", body: one.file };
      const answer = await told("files?name=" + encodeURIComponent(one.name), null, how);
      if (answer.structure) structures += 1;
      else place(answer);
    } catch (error) {
      trouble.push(error.message);
    }
    count(0, 1);
  }
  if (trouble.length) say(trouble.slice(0, 5).join("\n"), true);
  if (structures) await takeStructures(structures);
}

async function takeStructures(number) {
  say("Reading " + number + (number > 1 ? " structures …" : " structure …"));
  try {
    const answer = await told("structures");
    const left = answer.leftOut.map(([name, why]) => name + ": " + why);
    say("Compared with " + answer.library + ", " + answer.own + " of them yours." +
      (left.length ? " Left out: " + left.join("; ") : ""), left.length > 0);
    data.library = true;
    askAgain([...patterns.values()]);
  } catch (error) {
    failed(error);
  }
  showCommand();
}

/** Puts a file and its patterns into the table, in the place of what was told of it before. */
function place(answer) {
  const before = files.get(answer.file);
  const old = before ? before.patterns : [];
  const tail = old.length ? old[old.length - 1].line.nextSibling : null;
  old.forEach(forget);
  const file = { ...answer, elements: answer.elements || "" };
  const shown = answer.error ? [{ name: answer.input.split("/").pop(), reason: answer.error }]
    : answer.patterns.filter((one) => !one.byDesign);
  file.patterns = shown.map((one) => {
    const pattern = { number: ++last, file, read: one, state: "", row: null, plot: null, line: null };
    patterns.set(pattern.number, pattern);
    return pattern;
  });
  files.set(answer.file, file);
  for (const pattern of file.patterns) {
    drawLine(pattern);
    element("body").insertBefore(pattern.line, tail);
  }
  element("scans").hidden = element("out").hidden = !files.size;
  askAgain(file.patterns);
  showWavelengths();
  showCommand();
  if (!current || !patterns.has(current.number)) look(file.patterns[0] || null);
}

function forget(pattern) {
  patterns.delete(pattern.number);
  pattern.line.remove();
}

async function remove(file) {
  try {
    await ask("remove", { file: file.file });
  } catch (error) {
    if (error.status !== 404) return failed(error);
  }
  file.patterns.forEach(forget);
  files.delete(file.file);
  if (current && !patterns.has(current.number)) look([...patterns.values()][0] || null);
  element("scans").hidden = element("out").hidden = !files.size;
  showWavelengths();
  showCommand();
}

// --- wavelengths ------------------------------------------------------------------------------

const lacks = (pattern) => pattern.read.status === "read" ? pattern.read.wavelength == null
  : /wavelength/.test(pattern.read.reason || "");

async function setWavelength(some, wavelength) {
  for (const file of some) {
    try {
      place(await told("wavelength", { file: file.file, wavelength }));
    } catch (error) {
      failed(error);
    }
  }
}

/** Buttons that say a wavelength for some files. None is the default. */
function wavelengthNodes(some) {
  const field = document.createElement("input");
  field.setAttribute("aria-label", "another wavelength in angstrom");
  field.placeholder = "Å";
  field.inputMode = "decimal";
  const use = () => field.value.trim() && setWavelength(some, field.value.trim());
  field.addEventListener("click", (event) => event.stopPropagation());
  field.addEventListener("keydown", (event) => event.key === "Enter" && use());
  const name = some.length > 1 ? some.length + " files" : some[0].input;
  return [...data.anodes.map((anode) => button(NAMES[anode], () => setWavelength(some, anode),
    NAMES[anode] + " for " + name)), field, button("Use", use, "use this wavelength for " + name)];
}

function showWavelengths() {
  const some = [...files.values()].filter((file) => file.patterns.some(lacks));
  element("all-wavelengths").hidden = some.length < 2;
  if (some.length > 1) {
    element("all-wavelengths").replaceChildren(
      cell("span", some.length + " files do not state their wavelength. For all of them:"), ...wavelengthNodes(some));
  }
}

// --- table ------------------------------------------------------------------------------------

function pictureNode(picture) {
  const space = "http://www.w3.org/2000/svg";
  const node = document.createElementNS(space, "svg");
  node.setAttribute("viewBox", "0 0 220 48");
  node.setAttribute("preserveAspectRatio", "none");
  node.setAttribute("aria-hidden", "true");
  const curve = document.createElementNS(space, "polyline");
  curve.setAttribute("points", picture.points);
  node.append(curve);
  return node;
}

function readNodes(pattern) {
  const read = pattern.read;
  if (read.status !== "read") {
    const nodes = [cell("span", read.reason, "trouble")];
    if (lacks(pattern)) nodes.push(askNode(pattern));
    return nodes;
  }
  const angles = [read.two_theta_min, read.two_theta_max].map((angle) => Number(angle.toFixed(2)));
  const about = [read.format, read.axis, angles.join("° to ") + "°, step " + Number(read.step.toPrecision(3)) + "°"];
  const nodes = [cell("div", about.join("; "))];
  if (read.wavelength == null) {
    nodes.push(cell("div", "Its wavelength is not stated. Which one was it?"), askNode(pattern));
  } else {
    const source = read.wavelength_source === "file" ? "stated in the file" : "as you said";
    nodes.push(cell("div", "λ " + Number(read.wavelength.toFixed(5)) + " Å, " + source));
  }
  if (read.notes.length) nodes.push(cell("div", read.notes.join("; "), "soft"));
  return nodes;
}

function askNode(pattern) {
  const box = cell("div", "", "ask");
  box.append(...wavelengthNodes([pattern.file]));
  return box;
}

function answerCells(pattern) {
  const row = pattern.row;
  if (!row) return [cell("span", pattern.error || pattern.state, pattern.error ? "trouble" : "soft")];
  const parts = [cell("span", row.verdict, "tag " + row.verdict.replace(/\W+/g, "-"))];
  const phase = cell("div", "");
  if (row.formula) {
    phase.append(...formulaNodes(row.formula), (row.mineral ? " (" + row.mineral + ")" : "") + " " + percent(row.phaseProbability));
  }
  const system = cell("div", "", "soft");
  if (row.system) system.append(row.system + " " + percent(row.confidence), ...(row.spaceGroup ? [", ", ...groupNodes(row)] : []));
  return [...parts, phase, system];
}

function drawLine(pattern) {
  const line = document.createElement("tr");
  const name = cell("strong", pattern.read.name);
  const scan = boxOf([name, ...(pattern.read.picture ? [pictureNode(pattern.read.picture)] : [])], "scan");
  line.append(
    scan, boxOf(readNodes(pattern), "read"), boxOf(answerCells(pattern), "answer"),
    boxOf([button("×", () => remove(pattern.file), "remove " + pattern.file.input)], "gone"),
  );
  line.dataset.number = pattern.number;
  line.setAttribute("aria-selected", pattern === current);
  chosenBy(line, () => look(pattern));
  if (pattern.line && pattern.line.parentNode) {
    const focused = pattern.line === document.activeElement;
    pattern.line.replaceWith(line);
    if (focused) line.focus();
  }
  pattern.line = line;
}

function markRow() {
  for (const pattern of patterns.values()) {
    pattern.line.setAttribute("aria-selected", pattern === current);
  }
}

/** Shows a pattern below the table, as soon as there is an answer. */
function look(pattern) {
  current = pattern;
  markRow();
  if (pattern && pattern.row) select(pattern.row);
  else element("pattern").hidden = true;
  element("candidates").dispatchEvent(new Event("looked"));
}

// --- questions --------------------------------------------------------------------------------

const queue = [];
let asking = 0;

function askAgain(some) {
  for (const pattern of some) {
    if (pattern.read.status !== "read" || lacks(pattern) || queue.includes(pattern)) continue;
    Object.assign(pattern, { row: null, plot: null, error: "", state: "waiting …" });
    drawLine(pattern);
    queue.push(pattern);
    count(1, 0);
  }
  next();
}

function next() {
  while (asking < AT_ONCE && queue.length) {
    const seen = queue.indexOf(current);
    const pattern = queue.splice(Math.max(seen, 0), 1)[0];
    asking += 1;
    answer(pattern).finally(() => {
      asking -= 1;
      count(0, 1);
      next();
    });
  }
}

async function answer(pattern) {
  if (!patterns.has(pattern.number)) return;
  try {
    put(pattern, await told("answer", { file: pattern.file.file, pattern: pattern.read.number }));
  } catch (error) {
    pattern.error = error.message;
    drawLine(pattern);
    if (error.status === 503) setTimeout(() => askAgain([pattern]), 1000);
  }
}

/** Puts an answer where its pattern is, if that is still there. */
function put(pattern, found) {
  if (!patterns.has(pattern.number)) return;
  if (found.row.verdict === "failed") {
    Object.assign(pattern, { error: found.row.notes, row: null, plot: null });
  } else {
    Object.assign(pattern, { row: { ...found.row, number: pattern.number }, plot: found.plot, error: "" });
  }
  drawLine(pattern);
  if (pattern === current) look(pattern);
}

// --- what comes in ----------------------------------------------------------------------------

/** The files of what was dropped, those of folders too. */
async function dropped(items) {
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      const file = await new Promise((done, gone) => entry.file(done, gone));
      found.push({ name: entry.fullPath.replace(/^\//, ""), file });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, gone) => reader.readEntries(done, gone));
      if (!some.length) return;
      for (const one of some) await walk(one);
    }
  };
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) await walk(entry);
  return found;
}

const chosenFiles = (input) => [...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));

for (const [open, input] of [["choose", "files"], ["choose-folder", "directory"]]) {
  element(open).addEventListener("click", () => element(input).click());
  element(input).addEventListener("change", async () => {
    const some = chosenFiles(element(input));
    element(input).value = "";
    await take(some);
  });
}
element("examples").addEventListener("click", async () => {
  element("examples").disabled = true;
  try {
    (await told("examples")).files.forEach(place);
  } catch (error) {
    failed(error);
  }
  element("examples").disabled = false;
});
let depth = 0; // of the elements that something is dragged over
for (const [kind, step] of [["dragenter", 1], ["dragleave", -1], ["dragover", 0], ["drop", 0]]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    depth = kind === "drop" ? 0 : depth + step;
    element("drop").classList.toggle("over", depth > 0);
    if (kind === "drop") dropped(event.dataTransfer.items).then(take).catch(failed);
  });
}
window.addEventListener("beforeunload", (event) => files.size && event.preventDefault());
