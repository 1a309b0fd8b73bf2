"use strict";
// What can be done with the pattern that is looked at: moving a candidate's lines, laying a second
// phase beside it, saving a CIF file; and the results of all.

/** The button that saves the CIF file of a candidate. */
function fileNode(one, rank) {
  const save = async () => keep(await ask("cif", { ...asked(), phase: 0, rank })).catch(failed);
  return [button("CIF", () => save().catch(failed), "save the CIF file of " + phaseName(one))];
}

/** What names the pattern that is looked at. */
const asked = () => ({ file: current.file.file, pattern: current.read.number });

// --- moving a candidate -----------------------------------------------------------------------

let moved = null; // the place that is asked for next
let moving = false;

function showMoves(cellChange, displacement) {
  element("cell").value = cellChange;
  element("displacement").value = displacement;
  const sign = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  element("cell-value").textContent = sign(cellChange) + " %";
  element("displacement-value").textContent = sign(displacement) + " · 10⁻³ R";
}

async function move(place) {
  moved = place;
  if (moving) return;
  moving = true;
  while (moved) {
    const [pattern, index, now] = [current, chosen, moved];
    moved = null;
    try {
      const laid = await told("overlay", { ...asked(), phase: 0, rank: index, ...now });
      if (pattern === current && index === chosen && pattern.plot) {
        pattern.plot.candidates[index] = laid;
        showMoves(100 * laid.cell, 1000 * laid.displacement);
        sayAgreement(pattern.plot);
        drawPeaks(selected, pattern.plot);
        draw();
      }
    } catch (error) {
      failed(error);
    }
  }
  moving = false;
}

const moveTo = () => move({
  cell: Number(element("cell").value) / 100, displacement: Number(element("displacement").value) / 1000,
});
element("cell").addEventListener("input", moveTo);
element("displacement").addEventListener("input", moveTo);
element("fitted").addEventListener("click", () => move({}));

// --- a second phase ---------------------------------------------------------------------------

/** Lays a further phase beside the first candidate, or takes it away. */
async function layBeside(phase, rank) {
  const [pattern, key] = [current, phase + " " + rank];
  const plot = pattern.plot;
  const same = plot.second && plot.second.key === key;
  delete plot.second;
  if (!same) {
    if (chosen == null) chooseCandidate(0);
    try {
      const laid = await told("overlay", { ...asked(), phase, rank, beside: chosen });
      plot.second = { ...laid, key, label: shortName(selected.further[phase - 1][rank]) };
    } catch (error) {
      return failed(error);
    }
  }
  if (pattern !== current) return;
  markFurther();
  sayAgreement(plot);
  drawPeaks(selected, plot);
  draw();
}

function markFurther() {
  const second = current.plot && current.plot.second;
  for (const line of element("further-rows").children) {
    line.setAttribute("aria-selected", Boolean(second) && second.key === line.dataset.key);
  }
}

element("further-rows").closest("table").setAttribute("role", "grid");
element("candidates").addEventListener("marked", () => {
  const shown = chosen != null && Boolean(current.plot);
  element("moves").hidden = !shown;
  if (shown) {
    const one = selected.candidates[chosen];
    showMoves(one.shift, one.displacement);
  }
  const places = (selected.further || []).flatMap((some, i) => some.map((_, rank) => [i + 1, rank]));
  [...element("further-rows").children].forEach((line, i) => {
    if (line.dataset.key) return;
    const [phase, rank] = places[i];
    line.dataset.key = phase + " " + rank;
    chosenBy(line, () => layBeside(phase, rank));
  });
  markFurther();
});

// --- results ----------------------------------------------------------------------------------

let showing = 0;

/** Shows the command that gives the same results, a moment after the last change. */
function showCommand() {
  clearTimeout(showing);
  showing = setTimeout(async () => {
    try {
      const answer = await told("command");
      element("command").textContent = answer.command;
      element("manifest").hidden = answer.manifest == null;
      element("manifest-text").textContent = answer.manifest || "";
    } catch (error) {
      failed(error);
    }
  }, 100);
}

element("save").addEventListener("click", async () => {
  element("save").disabled = true;
  say("Writing the results of " + files.size + (files.size > 1 ? " files …" : " file …"));
  try {
    await keep(await ask("results"));
    say("Written.");
  } catch (error) {
    failed(error);
  }
  element("save").disabled = false;
});
element("copy").addEventListener("click", async () => {
  const text = element("command").textContent;
  await navigator.clipboard.writeText(text).then(() => say("Copied."), () => {
    getSelection().selectAllChildren(element("command"));
    say("Selected; copy it with Ctrl-C.");
  });
});
