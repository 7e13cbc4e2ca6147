// A plot tells its values at the place nearest to the pointer, or at the one that the arrow keys came to.
const at = new WeakMap();

function placesIn(curves) {
  return [...new Set(curves.flatMap(curve => curve.places))].sort((a, b) => a - b);
}

function nearest(places, place) {
  if (place === Infinity) return places.length - 1;
  let best = 0;
  places.forEach((other, index) => {
    if (Math.abs(other - place) < Math.abs(places[best] - place)) best = index;
  });
  return best;
}

function show(plot, wanted) {
  const { frame, unit, curves } = painted.get(plot), places = placesIn(curves);
  if (!places.length) return leave(plot);
  const place = places[nearest(places, wanted)], rows = [];
  at.set(plot, place);
  plot.querySelectorAll(".spot").forEach(spot => spot.classList.remove("on"));
  for (const curve of curves) {
    if (place < curve.places[0] || place > curve.places.at(-1)) continue;
    const index = nearest(curve.places, place), step = curve.steps[index];
    const spot = plot.querySelector(`.spot[data-of="${curve.run}"]`), y = frame.y(curve.values[index]);
    spot.setAttribute("cx", frame.x(curve.places[index]));
    spot.setAttribute("cy", y);
    spot.classList.toggle("on", isFinite(y));
    const label = unit === "steps" && step === place ? curve.name : `${curve.name}, step ${step}`;
    const short = value => Number(value.toPrecision(3));
    const interval = curve.low.length ? ` (${short(curve.low[index])} to ${short(curve.high[index])})` : "";
    rows.push([label, curve.texts[index] + curve.unit + interval, "r" + curve.run]);
  }
  const cross = plot.querySelector(".cross"), x = frame.x(place);
  cross.setAttribute("x1", x);
  cross.setAttribute("x2", x);
  cross.classList.add("on");
  const box = plot.getBoundingClientRect(), middle = box.left + x * box.width / plot.viewBox.baseVal.width;
  tell(placeText(place, unit, frame.last), rows, { left: middle, right: middle, top: box.top, bottom: box.bottom });
}

function leave(plot) {
  plot.querySelectorAll(".on").forEach(mark => mark.classList.remove("on"));
  hush();
}

function point(event) {
  const plot = event.currentTarget, { left, right, first, last } = painted.get(plot).frame;
  const box = plot.getBoundingClientRect();
  const x = (event.clientX - box.left) * plot.viewBox.baseVal.width / box.width;
  show(plot, first + (x - left) / (right - left) * (last - first));
}

function press(event) {
  const plot = event.currentTarget, moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const places = placesIn(painted.get(plot).curves);
  const index = nearest(places, at.get(plot) ?? -Infinity) + moves[event.key];
  if (places.length) show(plot, places[Math.max(0, Math.min(index, places.length - 1))]);
}

for (const plot of document.querySelectorAll("svg.plot")) {
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", () => leave(plot));
  plot.addEventListener("keydown", press);
  plot.addEventListener("focus", () => show(plot, at.get(plot) ?? Infinity));
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
    if (on) hidden.delete(chip.dataset.run);
    else hidden.add(chip.dataset.run);
    document.querySelectorAll(`.bars.r${chip.dataset.run}`).forEach(bars => bars.classList.toggle("off", !on));
    paintAll();
  });
}
