// A page of runs that go on is read again as often as it is written, and it is then, the last one too, as its reader left it.
function kept() {
  return [...document.querySelectorAll("[data-keep]")];
}

function stateOf(element) {
  return element.value || (element.ariaPressed ?? element.open);
}

function restore({ states, scroll }) {
  for (const element of kept()) {
    const state = states[element.dataset.keep];
    if (state === undefined || state === stateOf(element)) continue;
    if (element.matches("details")) element.open = state;
    else if (element.matches("select")) {
      element.value = state;
      element.dispatchEvent(new Event("change"));
    } else element.click();
  }
  scrollTo(0, scroll);
}

if (history.state?.states) {
  history.scrollRestoration = "manual";
  restore(history.state);
  history.replaceState(null, "");
}
if (document.body.dataset.reload) {
  setTimeout(() => {
    const states = Object.fromEntries(kept().map(element => [element.dataset.keep, stateOf(element)]));
    history.replaceState({ states, scroll: scrollY }, "");
    location.reload();
  }, 1000 * document.body.dataset.reload);
}
