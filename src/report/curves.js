// The curves of runs: over steps, tokens or time, on a plain or a logarithmic axis, smoothed or not.

// More points than these are not marked each, and may be smoothed.
const MARKED = 40;
// The share of a curve that a running mean goes over.
const SHARES = { none: 0, light: .02, medium: .05, strong: .15, auto: .05 };
const clocks = new Map([...document.querySelectorAll(".clock")].map(({ dataset }) => {
  return [dataset.run, { steps: numbers(dataset.steps), tokens: numbers(dataset.tokens), seconds: numbers(dataset.seconds) }];
}));
// What each plot shows: its frame, and its curves with the places of their points.
const painted = new WeakMap();
const hidden = new Set();

function choice(id) {
  return document.getElementById(id)?.value;
}

// What a run's clock says at these steps; between its own steps, in proportion. Nothing where it says nothing.
function placesOf(run, steps, unit) {
  if (unit === "steps") return steps;
  const clock = clocks.get(run);
  if (!clock?.[unit].length) return null;
  let after = 0;
  return steps.map(step => {
    while (after < clock.steps.length - 1 && clock.steps[after] < step) after++;
    const before = Math.max(after - 1, 0), way = clock.steps[after] - clock.steps[before];
    const share = way > 0 ? (step - clock.steps[before]) / way : 0;
    return clock[unit][before] + share * (clock[unit][after] - clock[unit][before]);
  });
}

function axisOf(plot, unit) {
  if (unit === "steps") return numbers(plot.dataset.axis);
  const times = [...clocks.values()].flatMap(clock => clock[unit]);
  return times.length ? [Math.min(...times), Math.max(...times)] : [0, 1];
}

// Seconds are shown in the unit in which the longest run is a number of a few digits.
function unitOfTime(last) {
  return last < 120 ? { size: 1, name: "s" } : last < 7200 ? { size: 60, name: "min" } : { size: 3600, name: "h" };
}

function placeText(value, unit, last) {
  if (unit === "steps") return `step ${value}`;
  if (unit === "tokens") return `${Math.round(value).toLocaleString("en")} tokens`;
  const { size, name } = unitOfTime(last);
  return `${Number((value / size).toPrecision(3))} ${name}`;
}

// A place in three digits.
function compact(value) {
  const [unit, suffix] = unitOfSize(value);
  return Number((value / unit).toPrecision(3)) + suffix;
}

// Marks at round places, the first place, and at the end the last with the axis's name; none runs into another.
function drawPlaceAxis(frame, unit, parent) {
  const { first, last } = frame, { size, name } = unit === "seconds" ? unitOfTime(last) : { size: 1, name: unit };
  const label = value => unit === "steps" ? String(value) : compact(value / size);
  const end = unit === "steps" ? `step ${last}` : `${label(last)} ${name}`;
  const width = text => CHARACTER * text.length;
  const put = (x, kind, text) => draw("text", { class: kind, x: x.toFixed(1), y: frame.floor + 16 }, parent, text);
  put(frame.right + RIGHT - 2, "at-left", end);
  if (first === last) return;
  put(frame.x(first), "below", label(first));
  let free = frame.x(first) + width(label(first)) / 2 + CHARACTER;
  for (const mark of ticks(first / size, last / size, 4, unit === "steps" ? 1 : 0)) {
    const text = label(mark.value * size), x = frame.x(mark.value * size);
    if (x - width(text) / 2 < free || x + width(text) / 2 > frame.right + RIGHT - width(end) - CHARACTER) continue;
    put(x, "below", text);
    free = x + width(text) / 2 + CHARACTER;
  }
}

// A long curve is drawn by the least and the greatest value of each column, and smoothed by the columns' means.
function read(line) {
  const { run, name, unit, steps, values, low, high, meanSteps, means } = line.dataset;
  const bounded = text => numbers(text).map(value => Math.max(-1e300, Math.min(value, 1e300)));
  const curve = { line, run, name, unit, steps: numbers(steps), values: bounded(values), texts: values.split(" ") };
  curve.low = bounded(low);
  curve.high = bounded(high);
  curve.meanSteps = means ? numbers(meanSteps) : curve.steps;
  curve.means = means ? bounded(means) : curve.values;
  return curve;
}

// Whether a curve goes up and down so much that its course is hard to see.
function isNoisy(values) {
  const way = values.reduce((way, value, index) => way + (index ? Math.abs(value - values[index - 1]) : 0), 0);
  return way > 6 * (Math.max(...values) - Math.min(...values));
}

// The mean of the values around each: of this share of the curve, half of it at the ends.
function runningMean(values, share) {
  const reach = Math.floor(values.length * share / 2) + 1, sums = [0];
  for (const value of values) sums.push(sums.at(-1) + value);
  return values.map((_, index) => {
    const begin = Math.max(index - reach, 0), end = Math.min(index + reach + 1, values.length);
    return (sums[end] - sums[begin]) / (end - begin);
  });
}

function joined(places, values, frame, isShown) {
  const pairs = places.map((place, index) => [place, values[index]]).filter(([, value]) => isShown(value));
  return pairs.map(([place, value]) => `${frame.x(place).toFixed(1)},${frame.y(value).toFixed(1)}`).join(" ");
}

function paintCurve(curve, frame, isShown, above, mean) {
  const { line, run, places } = curve;
  line.setAttribute("points", joined(places, curve.values, frame, isShown));
  line.classList.toggle("pale", Boolean(mean));
  if (mean) {
    const points = joined(placesOf(run, curve.meanSteps, choice("axis") ?? "steps"), mean, frame, isShown);
    draw("polyline", { class: `line mean r${run}`, points }, above);
  }
  const at = (value, index) => [frame.x(places[index]).toFixed(1), frame.y(value).toFixed(1)];
  if (places.length <= MARKED) {
    const mark = (value, index) => isShown(value) ? `M${at(value, index).join(" ")}h0` : "";
    draw("path", { class: `line marker r${run}`, d: curve.values.map(mark).join("") }, above);
  }
  const whisker = (low, index) => {
    const [x, y] = at(low, index);
    return isShown(low) ? `M${x} ${y}V${frame.y(curve.high[index]).toFixed(1)}` : "";
  };
  draw("path", { class: `line whisker r${run}`, d: curve.low.map(whisker).join("") }, above);
  draw("circle", { class: `spot r${run}`, "data-of": run, r: 4 }, above);
}

function paint(plot) {
  const unit = choice("axis") ?? "steps", smooth = choice("smooth");
  const curves = [...plot.querySelectorAll(".curve")].map(read);
  for (const curve of curves) {
    curve.places = placesOf(curve.run, curve.steps, unit);
    curve.line.classList.toggle("off", hidden.has(curve.run) || !curve.places);
  }
  const shown = curves.filter(curve => !curve.line.classList.contains("off"));
  const values = shown.flatMap(curve => [...curve.values, ...curve.low, ...curve.high]);
  const log = document.getElementById("log")?.ariaPressed === "true" && values.some(value => value > 0);
  const isShown = value => !log || value > 0, drawn = values.filter(isShown);
  const y = rangeOf(drawn.length ? drawn : [0, 1], Number(plot.dataset.least), log);
  const frame = frameOf(plot, { x: axisOf(plot, unit), y, log });
  plot.querySelectorAll("g").forEach(group => group.remove());
  const below = draw("g", {}, plot), above = draw("g", {}, plot);
  plot.prepend(below);
  drawValueAxis(frame, below);
  drawPlaceAxis(frame, unit, below);
  draw("line", { class: "cross", y1: TOP, y2: frame.floor }, below);
  const long = shown.filter(curve => curve.steps.length > MARKED);
  const isSmoothed = SHARES[smooth] > 0 && (smooth !== "auto" || long.some(curve => isNoisy(curve.means)));
  for (const curve of shown) {
    const mean = isSmoothed && curve.steps.length > MARKED ? runningMean(curve.means, SHARES[smooth]) : null;
    paintCurve(curve, frame, isShown, above, mean);
  }
  painted.set(plot, { frame, unit, curves: shown });
  tables.set(plot.closest("figure"), () => tableOf(plot, shown));
}

function tableOf(plot, curves) {
  const head = ["run", "step", "tokens", "seconds", plot.dataset.metric, "low", "high"];
  const rows = curves.flatMap(({ run, name, unit, steps, texts, low, high }) => {
    const [tokens, seconds] = ["tokens", "seconds"].map(unit => placesOf(run, steps, unit));
    return steps.map((step, at) => [
      name, step, tokens ? Math.round(tokens[at]) : "", seconds ? Number(seconds[at].toFixed(3)) : "",
      texts[at] + unit, low[at] ?? "", high[at] ?? "",
    ]);
  });
  return [head, ...rows];
}

function paintAll() {
  document.querySelectorAll("svg.plot").forEach(paint);
}

for (const id of ["axis", "smooth"]) document.getElementById(id)?.addEventListener("change", paintAll);
document.getElementById("log")?.addEventListener("click", event => {
  event.currentTarget.ariaPressed = String(event.currentTarget.ariaPressed !== "true");
  paintAll();
});
paintAll();
