// A plot shows the values of a step: the one nearest to the pointer, or the one that the arrow keys came to.
const shown = new WeakMap();

function curvesOf(plot) {
  return [...plot.querySelectorAll(".curve:not(.off)")].map(line => ({
    line,
    steps: line.dataset.steps.split(" ").map(Number),
    values: line.dataset.values.split(" "),
  }));
}

function stepsOf(curves) {
  return [...new Set(curves.flatMap(curve => curve.steps))].sort((a, b) => a - b);
}

function nearest(steps, step) {
  if (step === Infinity) return steps.length - 1;
  let best = 0;
  steps.forEach((other, index) => {
    if (Math.abs(other - step) < Math.abs(steps[best] - step)) best = index;
  });
  return best;
}

function show(plot, step) {
  const curves = curvesOf(plot);
  if (!curves.length) return leave(plot);
  step = stepsOf(curves)[nearest(stepsOf(curves), step)];
  shown.set(plot, step);
  plot.querySelectorAll(".spot").forEach(spot => spot.classList.remove("on"));
  const rows = [];
  for (const { line, steps, values } of curves) {
    if (step < steps[0] || step > steps.at(-1)) continue;
    const index = nearest(steps, step), { name, unit, run } = line.dataset;
    const { x, y } = line.points.getItem(index);
    const spot = plot.querySelector(`.spot[data-run="${run}"]`);
    spot.setAttribute("cx", x);
    spot.setAttribute("cy", y);
    spot.classList.add("on");
    rows.push([steps[index] === step ? name : `${name}, step ${steps[index]}`, values[index] + unit, "r" + run]);
  }
  const [first, last, left, right] = plot.dataset.axis.split(" ").map(Number);
  const x = left + (last > first ? (step - first) / (last - first) : .5) * (right - left);
  const cross = plot.querySelector(".cross");
  cross.setAttribute("x1", x);
  cross.setAttribute("x2", x);
  cross.classList.add("on");
  const box = plot.getBoundingClientRect(), middle = box.left + x * box.width / plot.viewBox.baseVal.width;
  tell(`step ${step}`, rows, { left: middle, right: middle, top: box.top, bottom: box.bottom });
}

function leave(plot) {
  plot.querySelectorAll(".on").forEach(mark => mark.classList.remove("on"));
  hush();
}

function point(event) {
  const plot = event.target.closest("svg.plot");
  if (!plot) return;
  const [first, last, left, right] = plot.dataset.axis.split(" ").map(Number);
  const box = plot.getBoundingClientRect();
  const x = (event.clientX - box.left) * plot.viewBox.baseVal.width / box.width;
  show(plot, first + (x - left) / (right - left) * (last - first));
}

function press(event) {
  const plot = event.target.closest("svg.plot");
  const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (!plot || !(event.key in moves)) return;
  event.preventDefault();
  const steps = stepsOf(curvesOf(plot));
  const index = nearest(steps, shown.get(plot) ?? -Infinity) + moves[event.key];
  if (steps.length) show(plot, steps[Math.max(0, Math.min(index, steps.length - 1))]);
}

for (const plot of document.querySelectorAll("svg.plot")) {
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", () => leave(plot));
  plot.addEventListener("keydown", press);
  plot.addEventListener("focus", () => show(plot, shown.get(plot) ?? Infinity));
  plot.addEventListener("blur", () => leave(plot));
}

for (const chip of document.querySelectorAll(".chip")) {
  const light = () => { document.body.dataset.lit = chip.dataset.run; };
  const dim = () => { delete document.body.dataset.lit; };
  chip.addEventListener("pointerenter", light);
  chip.addEventListener("pointerleave", dim);
  chip.addEventListener("focus", light);
  chip.addEventListener("blur", dim);
  chip.addEventListener("click", () => {
    const on = chip.getAttribute("aria-pressed") === "false";
    chip.setAttribute("aria-pressed", on);
    document.querySelectorAll(`.plot .r${chip.dataset.run}`).forEach(mark => mark.classList.toggle("off", !on));
  });
}
