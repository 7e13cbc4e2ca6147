// Charts: the page holds their points, and what is drawn of them is drawn here: scales, axes, marks.
const RIGHT = 14, TOP = 10, CHARACTER = 6.8;

function numbers(text) {
  return text ? text.split(" ").map(Number) : [];
}

function draw(name, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return parent.appendChild(element);
}

// The nearest of 1, 2, 5, 10 times a power of ten.
function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step)), share = step / power;
  return (share < 1.4 ? 1 : share < 3.2 ? 2 : share < 7.1 ? 5 : 10) * power;
}

function magnitude(value) {
  return Math.floor(Math.log10(Math.abs(value)) + 1e-9);
}

// In what numbers up to this size are written, and how that is said.
function unitOfSize(size) {
  return size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
}

// A value beside an axis whose marks are `step` apart and whose largest value is `top`.
function tickLabel(value, step, top) {
  if (Math.abs(value) < step * 1e-6) return "0";
  if (top < 1e-3 || top >= 1e15) {
    const text = value.toExponential(Math.max(0, magnitude(value) - magnitude(step)));
    return text.replace("e+", "e").replace(/\.0+e/, "e");
  }
  const [unit, suffix] = unitOfSize(top);
  return (value / unit).toFixed(Math.max(0, -magnitude(step / unit))) + suffix;
}

// The round values in a range, about `count` of them and at least `least` apart, and how they are written.
function ticks(low, high, count, least = 0) {
  const step = Math.max(nice((high - low) / count), least), marks = [];
  if (!(step > 0) || !isFinite(step)) return marks;
  const top = Math.max(Math.abs(low), Math.abs(high));
  for (let index = Math.ceil(low / step); index * step <= high + step * 1e-6 && marks.length < 3 * count; index++) {
    marks.push({ value: index * step, label: tickLabel(index * step, step, top) });
  }
  return marks;
}

// The powers of ten in a range, with 2 and 5 times them where they are few; the marks of a plain axis where it has less.
function logTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const every = Math.ceil((last - first) / 5), marks = [];
  for (let power = first; power <= last; power += every) {
    for (const factor of high / low > 1000 ? [1] : [1, 2, 5]) {
      const value = Number(`${factor}e${power}`);
      const label = power < -3 || power > 4 ? `${factor}e${power}` : String(value);
      if (value >= low && value <= high) marks.push({ value, label });
    }
  }
  return marks.length > 1 ? marks : ticks(low, high, 4);
}

// The range of the values that a chart shows: a little more than there are, and nothing below zero where no value is. Noise
// is not drawn as a peak: the range spans at least a tenth of the largest value's size, and at least `least`, which is
// given for what is at most 1; there it ends at 1. On a logarithmic axis it spans at least that tenth as a factor.
function rangeOf(values, least, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) {
    const margin = Math.max((high / low) ** .06, (1.1 * low / high) ** .5);
    return [low / margin, high * margin];
  }
  const size = Math.max(Math.abs(low), Math.abs(high)), most = least && high <= 1 ? 1 : Infinity;
  const span = Math.max(high - low, .1 * size, least) || 1;
  const margin = .06 * span + .5 * (span - (high - low)), isAbove = low >= 0;
  [low, high] = [low - margin, high <= 0 && high < low + margin ? Math.min(high + margin, 0) : high + margin];
  if (high > most) [low, high] = [low - (high - most), most];
  return isAbove && low < 0 ? [0, Math.max(high, span)] : [low, high];
}

// Where the points of a chart lie in its drawing.
function frameOf(svg, { x, y, log = false, bottom = 24 }) {
  const { width, height } = svg.viewBox.baseVal;
  const marks = log ? logTicks(...y) : ticks(...y, 4);
  const left = Math.max(40, 12 + CHARACTER * Math.max(0, ...marks.map(mark => mark.label.length)));
  const right = width - RIGHT, floor = height - bottom, of = log ? Math.log : value => value;
  const [low, high] = y.map(of);
  return {
    left, right, floor, marks, first: x[0], last: x[1],
    x: value => left + (x[1] > x[0] ? (value - x[0]) / (x[1] - x[0]) : .5) * (right - left),
    y: value => TOP + (high - of(value)) / (high - low) * (floor - TOP),
  };
}

function drawValueAxis(frame, parent) {
  for (const { value, label } of frame.marks) {
    const y = frame.y(value);
    const kind = value === 0 ? "zero" : "grid";
    draw("path", { class: kind, d: `M${frame.left.toFixed(1)} ${y.toFixed(1)}H${frame.right}` }, parent);
    draw("text", { class: "at-left", x: (frame.left - 6).toFixed(1), y: (y + 3.5).toFixed(1) }, parent, label);
  }
  draw("path", { class: "axis", d: `M${frame.left.toFixed(1)} ${frame.floor}H${frame.right}` }, parent);
}

// Marks below, and the axis's name under them.
function drawNamedAxis(svg, frame, marks, parent) {
  for (const { value, label } of marks) {
    draw("text", { class: "below", x: frame.x(value).toFixed(1), y: frame.floor + 16 }, parent, label);
  }
  draw("text", { class: "below", x: (frame.left + frame.right) / 2, y: frame.floor + 34 }, parent, svg.dataset.x);
}

// Shares of responses by a number's size: bars, or where there are several series their outlines. A few bins are named each
// by its middle.
function drawHistogram(svg) {
  const edges = numbers(svg.dataset.edges), series = [...svg.querySelectorAll(".bars")], few = edges.length < 8;
  const shares = series.map(bars => numbers(bars.dataset.shares)), isOnly = series.length === 1;
  const frame = frameOf(svg, { x: [edges[0], edges.at(-1)], y: [0, 1.06 * Math.max(...shares.flat())], bottom: 44 });
  const axes = draw("g", {}, svg), middle = bin => Number(((edges[bin] + edges[bin + 1]) / 2).toPrecision(4));
  const middles = edges.slice(1).map((_, bin) => ({ value: middle(bin), label: String(middle(bin)) }));
  drawValueAxis(frame, axes);
  drawNamedAxis(svg, frame, few ? middles : ticks(frame.first, frame.last, 4), axes);
  svg.prepend(axes);
  const x = edge => frame.x(edges[edge]), floor = frame.floor;
  series.forEach((bars, index) => {
    const y = share => frame.y(share).toFixed(1);
    const bar = (share, bin) => `M${(x(bin) + 1).toFixed(1)} ${floor}V${y(share)}H${(x(bin + 1) - 1).toFixed(1)}V${floor}`;
    const step = (share, bin) => `H${x(bin).toFixed(1)}V${y(share)}H${x(bin + 1).toFixed(1)}`;
    const outline = `M${x(0).toFixed(1)} ${floor}${shares[index].map(step).join("")}V${floor}`;
    bars.setAttribute("d", isOnly ? shares[index].map(bar).join("") : outline);
    bars.classList.toggle("only", isOnly);
  });
  const head = ["from", "to", ...series.map(bars => bars.dataset.name)];
  const row = bin => [edges[bin], edges[bin + 1], ...shares.map(of => of[bin])];
  tables.set(svg.closest("figure"), () => [head, ...edges.slice(1).map((_, bin) => row(bin))]);
}

function drawScatter(svg) {
  const x = numbers(svg.dataset.across), y = numbers(svg.dataset.up);
  const spread = values => {
    const low = Math.min(...values), high = Math.max(...values), margin = high > low ? .06 * (high - low) : .5;
    return [low - margin, high + margin];
  };
  const frame = frameOf(svg, { x: spread(x), y: spread(y), bottom: 44 });
  drawValueAxis(frame, svg);
  drawNamedAxis(svg, frame, ticks(frame.first, frame.last, 4), svg);
  draw("text", { x: 2, y: 9 }, svg, svg.dataset.y);
  const dots = x.map((value, index) => `M${frame.x(value).toFixed(1)} ${frame.y(y[index]).toFixed(1)}h0`);
  draw("path", { class: "dots", d: dots.join("") }, svg);
  tables.set(svg.closest("figure"), () => [[svg.dataset.x, svg.dataset.y], ...x.map((value, index) => [value, y[index]])]);
}

document.querySelectorAll("svg.histogram").forEach(drawHistogram);
document.querySelectorAll("svg.scatter").forEach(drawScatter);
