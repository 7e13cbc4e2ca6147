// A token tells its numbers under the pointer or the focus; the line of V and the table of segments point at tokens.
let at = null;

function partsOf(element) {
  const article = element.closest("article");
  return { tokens: article.querySelector(".text").children, here: article.querySelector(".here") };
}

function leave() {
  if (!at) return;
  at.classList.remove("at");
  partsOf(at).here.classList.remove("on");
  at = null;
  hush();
}

function show(token, box) {
  leave();
  at = token;
  token.classList.add("at");
  const { tokens, here } = partsOf(token);
  const index = Array.prototype.indexOf.call(tokens, token);
  here.setAttribute("x1", index + .5);
  here.setAttribute("x2", index + .5);
  here.classList.add("on");
  const [value, change, advantage, reward] = token.dataset.t.split(" ");
  const rows = [["V before it", value], [index + 1 < tokens.length ? "change of V" : "reward less V", change]];
  if (advantage !== "-") rows.push(["advantage", advantage]);
  rows.push(["reward here", reward]);
  tell(`${index + 1}  ${JSON.stringify(token.textContent)}`, rows, box);
}

// A token that is broken over lines has several boxes: that under the pointer counts.
function boxOf(token, y) {
  const boxes = [...token.getClientRects()];
  return boxes.find(box => box.top <= y && y <= box.bottom) ?? boxes[0] ?? token.getBoundingClientRect();
}

function sparkToken(spark, event) {
  const box = spark.getBoundingClientRect(), { tokens } = partsOf(spark);
  const index = Math.floor((event.clientX - box.left) / box.width * tokens.length);
  const token = tokens[Math.max(0, Math.min(index, tokens.length - 1))];
  return { token, box: { left: event.clientX, right: event.clientX, top: box.top, bottom: box.bottom } };
}

function light(row, on) {
  const tokens = [...partsOf(row).tokens].slice(row.dataset.first, row.dataset.end);
  for (const token of tokens) token.classList.toggle("lit", on);
}

function point(event) {
  const token = event.target.closest("[data-t]"), spark = event.target.closest(".spark");
  if (token) show(token, boxOf(token, event.clientY));
  else if (spark) {
    const { token, box } = sparkToken(spark, event);
    show(token, box);
  } else if (event.type === "pointerover" && at !== document.activeElement) leave();
}

// The Tab key stops once in a response: where its reader was last.
function stopAt(token) {
  token.parentElement.querySelector("[tabindex]")?.removeAttribute("tabindex");
  token.tabIndex = 0;
  token.scrollIntoView({ block: "nearest" });
  token.focus({ preventScroll: true });
}

function press(event) {
  const token = event.target.closest("[data-t]");
  const next = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
  const end = { Home: "firstElementChild", End: "lastElementChild" }[event.key];
  if (!token || !(next || end)) return;
  event.preventDefault();
  const other = next ? token[next] : token.parentElement[end];
  if (!other) return;
  stopAt(other);
}

function choose(button) {
  document.querySelector(".responses").dataset.show = button.dataset.show;
  for (const other of document.querySelectorAll("button[data-show]")) {
    other.setAttribute("aria-pressed", other === button);
  }
}

// Colours and lines of V are from 0 to 1, or over the page's own range.
document.getElementById("stretch")?.addEventListener("click", event => {
  const button = event.currentTarget, isOwn = button.ariaPressed !== "true";
  button.ariaPressed = String(isOwn);
  for (const part of document.querySelectorAll("[data-scale]")) part.dataset.scale = isOwn ? "own" : "unit";
  for (const spark of document.querySelectorAll(".spark")) {
    spark.setAttribute("viewBox", isOwn ? spark.dataset.own : spark.dataset.unit);
  }
});

document.addEventListener("pointerover", event => {
  point(event);
  const row = event.target.closest("tr[data-first]");
  if (row) light(row, true);
});
document.addEventListener("pointerout", event => {
  const row = event.target.closest("tr[data-first]");
  if (row && !row.contains(event.relatedTarget)) light(row, false);
});
document.addEventListener("pointermove", event => { if (event.target.closest(".spark")) point(event); });
document.addEventListener("focusin", event => {
  const token = event.target.closest("[data-t]");
  if (token) show(token, boxOf(token, -1));
});
document.addEventListener("focusout", leave);
document.addEventListener("keydown", press);
document.addEventListener("click", event => {
  const button = event.target.closest("button[data-show]"), spark = event.target.closest(".spark");
  if (button) choose(button);
  if (spark) stopAt(sparkToken(spark, event).token);
});
