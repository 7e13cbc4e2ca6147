// A figure's points as a file of comma-separated values, and the figure as a picture, each at a button of its own.

// Of a figure, what makes its table: rows of cells, the head first.
const tables = new WeakMap();

const STYLES = [
  "fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "stroke-linecap",
  "stroke-linejoin", "opacity", "display", "font-size", "font-family", "text-anchor", "vector-effect",
];
const SCALE = 3;

function nameOf(figure) {
  return figure.querySelector("figcaption b").textContent;
}

function save(figure, ending, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = nameOf(figure).toLowerCase().replace(/[^a-z0-9_]+/g, "-").replace(/^-+|-+$/g, "") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function saveTable(figure) {
  const cell = value => /[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;
  const text = tables.get(figure)().map(row => row.map(cell).join(",") + "\n").join("");
  save(figure, ".csv", new Blob([text], { type: "text/csv" }));
}

// The drawing with its styles in it, as it looks on the page.
function styled(svg) {
  const copy = svg.cloneNode(true), copies = [copy, ...copy.querySelectorAll("*")];
  [svg, ...svg.querySelectorAll("*")].forEach((element, index) => {
    const style = getComputedStyle(element);
    for (const name of STYLES) copies[index].style.setProperty(name, style.getPropertyValue(name));
  });
  return copy;
}

// The drawing under its name and over the names of its series.
function pictureOf(figure) {
  const svg = figure.querySelector("svg"), { width, height } = svg.viewBox.baseVal, above = 28;
  const series = [...svg.querySelectorAll("[data-name]:not(.off)")];
  const whole = above + height + 18 * series.length + 10, style = getComputedStyle(figure);
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const size = { width: width * SCALE, height: whole * SCALE, viewBox: `0 0 ${width} ${whole}` };
  for (const [name, value] of Object.entries(size)) picture.setAttribute(name, value);
  const text = { fill: style.color, "font-family": style.fontFamily };
  draw("rect", { width, height: whole, fill: style.backgroundColor }, picture);
  draw("text", { ...text, x: 8, y: 19, "font-size": 14, "font-weight": 600 }, picture, nameOf(figure));
  const copy = picture.appendChild(styled(svg));
  for (const [name, value] of Object.entries({ y: above, width, height })) copy.setAttribute(name, value);
  series.forEach((line, index) => {
    const y = above + height + 18 * index + 12, { stroke, strokeDasharray } = getComputedStyle(line);
    draw("path", { d: `M10 ${y - 4}h24`, stroke, "stroke-width": 3, "stroke-dasharray": strokeDasharray }, picture);
    draw("text", { ...text, x: 42, y, "font-size": 12 }, picture, line.dataset.name);
  });
  return { picture, width: width * SCALE, height: whole * SCALE };
}

function savePicture(figure) {
  const { picture, width, height } = pictureOf(figure), image = new Image();
  image.onload = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.toBlob(blob => save(figure, ".png", blob));
  };
  // Characters that a name may have and XML may not.
  const text = new XMLSerializer().serializeToString(picture).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd");
  image.src = "data:image/svg+xml," + encodeURIComponent(text);
}

for (const figure of document.querySelectorAll("figure.card:has(.plot, .histogram, .scatter)")) {
  const saves = document.createElement("div");
  saves.className = "save";
  for (const [name, what, action] of [["CSV", "points", saveTable], ["PNG", "picture", savePicture]]) {
    const button = saves.appendChild(document.createElement("button"));
    button.textContent = name;
    button.setAttribute("aria-label", `${name}: save the ${what} of ${nameOf(figure)}`);
    button.addEventListener("click", () => action(figure));
  }
  figure.append(saves);
}
