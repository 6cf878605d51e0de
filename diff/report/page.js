(() => {
  "use strict";
  const stops = () => [...document.querySelectorAll("[data-stop]")];
  const help = document.getElementById("help");
  let at = -1;
  const go = (i) => {
    const all = stops();
    if (!all.length) return;
    at = Math.max(0, Math.min(all.length - 1, i));
    all[at].focus({ preventScroll: true });
    all[at].scrollIntoView({ block: "start" });
    document.body.dataset.at = all[at].id;
  };
  const here = () => {
    const stop = document.activeElement && document.activeElement.closest("[data-stop]");
    return stop ? stops().indexOf(stop) : at;
  };
  const fold = (root) => {
    const all = [...root.querySelectorAll("details")];
    const open = all.some((d) => !d.open);
    all.forEach((d) => { d.open = open; });
    document.body.dataset.open = String(document.querySelectorAll("details[open]").length);
  };
  const keys = {
    j: () => go(here() + 1),
    k: () => go(here() - 1),
    g: () => go(0),
    G: () => go(stops().length - 1),
    e: () => fold(document),
    Enter: () => { const all = stops(); if (all[here()]) fold(all[here()]); },
    "?": () => { help.open ? help.close() : help.showModal(); },
  };
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "Enter" && e.target.closest("a,button,summary")) return;
    if (help.open && e.key !== "?") return;
    if (/^[1-9]$/.test(e.key)) {
      const i = stops().findIndex((s) => s.id === "cause-" + e.key);
      if (i >= 0) { e.preventDefault(); go(i); }
      return;
    }
    if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
  });
  document.getElementById("keys").addEventListener("click", keys["?"]);
})();
