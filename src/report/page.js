// The tooltip: a title and rows of [label, value, class], beside a box of the window.
const tip = document.getElementById("tip");

function tell(title, rows, box) {
  const make = (name, text, parent) => {
    const element = parent.appendChild(document.createElement(name));
    element.textContent = text;
    return element;
  };
  tip.replaceChildren();
  make("strong", title, tip);
  const list = make("dl", "", tip);
  for (const [label, value, kind] of rows) {
    const term = make("dt", label, list);
    if (kind) term.className = kind;
    make("dd", value, list);
  }
  tip.hidden = false;
  const gap = 10, width = document.documentElement.clientWidth;
  const x = Math.max(gap, Math.min((box.left + box.right - tip.offsetWidth) / 2, width - tip.offsetWidth - gap));
  const above = box.top - tip.offsetHeight - gap;
  tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(above > 0 ? above : box.bottom + gap)}px)`;
}

function hush() {
  tip.hidden = true;
}

addEventListener("keydown", event => { if (event.key === "Escape") hush(); });
