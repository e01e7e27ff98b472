// What is looked at, keys, and the page's start.

const view = { clip: null };

/** Whether list and clip are side by side. */
const wide = matchMedia("(min-width: 1100px)");

/** Opens a clip beside the list, or in its place where there is no room. */
function open(clip, { time = null, focus = false } = {}) {
  const before = view.clip;
  const same = before && before.file === clip.file;
  view.clip = clip;
  if (!same) store.keep(clip.file);
  list.current = list.shown.indexOf(clip);
  look("clip");
  const hash = `#clip-${clip.id}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
  player.open(clip, time ?? (same ? player.time : clip.start));
  if (!same) timeline.fit();
  stage.place();
  panel.said = "";
  panel.open(clip);
  timeline.open(clip);
  panel.at(player.time);
  list.mark();
  if (focus) $("line").focus();
}

function look(name) {
  document.body.dataset.view = name;
  $("clip").hidden = name !== "clip";
  $("summary").hidden = name !== "summary";
  $("nothing").hidden = name !== "list";
  $("to-list").setAttribute("aria-pressed", String(name !== "summary"));
  $("to-summary").setAttribute("aria-pressed", String(name === "summary"));
  if (name !== "clip") {
    player.pause();
    history.replaceState(null, "", name === "summary" ? "#summary" : "#");
  }
  if (name === "list" || name === "clip") list.draw();
}

function back() {
  look("list");
  $("grid").focus();
}

function beside(by) {
  const clip = list.move(by);
  if (clip) open(clip);
}

const KEYS = [
  ["j k", "next, previous clip"],
  ["Enter", "open the clip of the table"],
  ["Esc", "back to the table"],
  ["/", "filter"],
  ["Space", "play, pause"],
  ["← →", "a second back, on; with Shift ten"],
  [", .", "the looked-at frame before, after"],
  ["Home End", "start, end"],
  ["+ − f", "shorter, longer stretch of the time line; all of it"],
  ["1 … 9", "the right expression"],
  ["0", "no face, leave out"],
  ["r", "correct the whole clip, or the stretch that is shown"],
  ["u", "take the last correction back"],
  ["s", "save the corrections as labels"],
  ["?", "these keys"],
];

/** Keys of corrections, which there are none of while a stream goes on. */
const CORRECTS = /^[0-9rus]$/;

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const { key, target } = event;
  if (course.on && CORRECTS.test(key)) return;
  const typing = target.matches("input[type=search], select");
  if (typing) {
    if (key === "Escape") $("grid").focus();
    return;
  }
  const clip = view.clip && !$("clip").hidden;
  const pressed = target.matches("button, a, input, summary");
  const step = event.shiftKey ? 10 : 1;
  const any = {
    "/": () => $("words").focus(),
    "?": () => $("keys").showModal(),
    j: () => beside(1),
    k: () => beside(-1),
    u: () => edits.undo(),
    s: () => saveLabels(),
    Escape: () => back(),
  };
  const ofClip = {
    " ": () => pressed || player.toggle(),
    ArrowLeft: () => player.seek(player.time - step),
    ArrowRight: () => player.seek(player.time + step),
    ",": () => stage.step(-1),
    ".": () => stage.step(1),
    Home: () => player.seek(0),
    End: () => player.seek(player.end),
    "+": () => timeline.zoom(0.5),
    "=": () => timeline.zoom(0.5),
    "-": () => timeline.zoom(2),
    "−": () => timeline.zoom(2),
    f: () => timeline.fit(),
    r: () => {
      const range = $("scope-range");
      (range.checked || range.disabled ? $("scope-clip") : range).click();
    },
  };
  const ofGrid = {
    ArrowDown: () => list.move(1),
    ArrowUp: () => list.move(-1),
    Home: () => list.move(-Infinity),
    End: () => list.move(Infinity),
    Enter: () => list.shown[list.current] && open(list.shown[list.current], { focus: true }),
  };
  let action = any[key];
  if (!action && target === $("grid")) action = ofGrid[key];
  if (!action && target.matches("input[type=radio]") && key.startsWith("Arrow")) return;
  if (!action && clip) {
    action = ofClip[key];
    if (/^[0-9]$/.test(key)) {
      const place = view.clip.file.classes[Number(key) - 1];
      if (key === "0") action = () => panel.correct(LEFT_OUT);
      else if (place !== undefined) action = () => panel.correct(store.classes[place]);
    }
    if (key === " " && pressed) return;
  }
  if (!action) return;
  event.preventDefault();
  action();
}

function theme(next) {
  const themes = ["", "light", "dark"];
  const now = document.documentElement.dataset.theme ?? "";
  const chosen = next ?? themes[(themes.indexOf(now) + 1) % themes.length];
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  const word = { "": "Auto", light: "Light", dark: "Dark" }[chosen];
  $("theme").textContent = word;
  $("theme").ariaLabel = `Colours: ${word}`;
  if (next === undefined) kept.set("mtcae-report-theme", chosen);
  recolour();
}

/** Draws anew what has colours. */
function recolour() {
  styles.clear();
  list.redraw();
  summary.show(head.evaluation, head.purpose);
  if (view.clip) {
    panel.said = "";
    panel.open(view.clip);
    panel.at(player.time);
    timeline.redraw();
  }
}

function edited() {
  const count = edits.count();
  $("edited").hidden = count === 0;
  $("edited").replaceChildren(`${count} corrected`, edits.unsaved ? "" : make("span", { class: "more" }, ", saved"));
  $("edited").classList.toggle("unsaved", edits.unsaved);
  $("undo").disabled = edits.past.length === 0;
  $("save").disabled = count === 0;
  if ($("by-state").value) list.filter();
  else list.redraw();
  if (view.clip) {
    panel.choices(view.clip);
    timeline.redraw();
  }
}

function foot() {
  const trained = [...new Set(store.models.map((m) => m.trained_on))];
  const words = trained.map((on) => (on ? `Trained on ${on}.` : "Weights that were not trained: the numbers mean nothing."));
  $("foot").replaceChildren(
    make("p", { class: "saved", id: "saved", hidden: true }),
    make("p", {}, head.purpose),
    make("p", {}, words.join(" "), ` ${[...new Set(store.models.map((m) => m.program).filter(Boolean))].join(", ")}`),
  );
}

function follow() {
  const [, id] = /^#clip-(\d+)$/.exec(location.hash) ?? [];
  if (id && store.clips[id]) open(store.clips[id]);
  else look(location.hash === "#summary" ? "summary" : "list");
}

const head = JSON.parse($("head").textContent);

/** The columns of a file that the page holds, once they have been read that far. */
const packed = (place) => () => $(`pack-${place}`)?.textContent || null;

function tally() {
  const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  const words = [count(store.clips.length, "clip")];
  if (store.files.length !== store.clips.length) words.push(count(store.files.length, "file"));
  $("tally").textContent = words.join(", ");
}

/** Results that came after the page: the table and the summary are of them too. */
function arrived() {
  if (arrived.waiting) return;
  arrived.waiting = requestAnimationFrame(() => {
    arrived.waiting = null;
    tally();
    list.classes();
    list.filter();
    summary.show(head.evaluation, head.purpose);
    if (view.clip) panel.people(view.clip);
  });
}

function begin() {
  store.begin(head);
  head.results.forEach((results, place) => store.add(results, packed(place)));
  tally();
  store.listeners.push(arrived);
  // Whoever feeds the page while it is open says what a page's head says, and one pack.
  document.addEventListener("mtcae:results", ({ detail }) => {
    store.begin(detail);
    store.add(detail.results, () => detail.pack);
  });
  if (head.live) course.begin();
  else edits.load();
  list.begin();
  player.begin();
  stage.begin();
  timeline.begin();
  player.listeners.push((time) => panel.at(time));
  edits.listeners.push(edited);
  foot();
  theme(kept.get("mtcae-report-theme") ?? "");
  list.filter();
  edited();
  const used = KEYS.filter(([key]) => !(head.live && CORRECTS.test(key[0]) && (key.length === 1 || key.includes("…"))));
  $("key-list").append(...used.flatMap(([key, what]) => [
    make("dt", {}, ...key.split(" ").map((k) => make("kbd", {}, k))),
    make("dd", {}, what),
  ]));
  const on = { back, undo: () => edits.undo(), save: saveLabels, theme: () => theme(), help: () => $("keys").showModal(),
    previous: () => beside(-1), next: () => beside(1), "to-list": () => look(view.clip && wide.matches ? "clip" : "list"), "to-summary": () => look("summary") };
  for (const [id, action] of Object.entries(on)) $(id).addEventListener("click", action);
  for (const id of ["scope-clip", "scope-range"]) $(id).addEventListener("change", () => panel.choices(view.clip));
  $("foot").addEventListener("saved", ({ detail }) => {
    $("saved").replaceChildren(make("b", {}, detail.words), " Beside this page, ", make("code", {}, detail.command), " trains on it.");
    $("saved").hidden = false;
  });
  addEventListener("keydown", keys);
  addEventListener("hashchange", follow);
  media.addEventListener("change", recolour);
  follow();
  // Numbers come last: what was opened before they were there is drawn again.
  addEventListener("DOMContentLoaded", () => {
    const first = view.clip ?? (location.hash.length < 2 && (wide.matches || store.clips.length === 1) ? list.shown[0] : null);
    if (first) open(first);
  });
}

begin();
