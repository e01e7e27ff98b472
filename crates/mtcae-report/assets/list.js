// The table of clips: filtered, sorted, and only the rows in sight drawn.

const COLUMNS = [
  { name: "File", key: (c) => `${c.file.file} ${String(c.person ?? 0).padStart(4, "0")}`.toLowerCase() },
  { name: "Person", key: (c) => c.person ?? 0 },
  { name: "Expression", key: (c) => (c.class === null ? "\uffff" : store.classes[c.class]) },
  { name: "Confidence", key: (c) => (c.class === null ? -1 : c.confidence) },
  { name: "Seen", key: (c) => (c.seen ? c.seen[0] / Math.max(c.seen[1], 1) : -1) },
  { name: "Remarks", key: (c) => c.remarked },
];

const list = {
  shown: [],
  current: -1,
  sort: { column: -1, down: false },
  drawn: new Map(),

  begin() {
    COLUMNS.forEach((column, i) => {
      const button = make("button", { type: "button", onclick: () => this.sortBy(i) }, column.name);
      const head = make("div", { role: "columnheader", class: `cell c${i}`, "aria-sort": "none" }, button);
      $("heads").append(head);
    });
    for (const id of ["words", "by-class", "by-confidence", "by-state"]) {
      $(id).addEventListener("input", () => this.filter());
    }
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("grid").addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => {
      const before = this.height();
      styles.delete("--row");
      // Rows are as high as the window's width asks for.
      if (this.height() === before) this.draw();
      else this.redraw();
    }).observe($("grid"));
    this.classes();
  },

  classes() {
    const option = (value, text) => make("option", { value }, text);
    const chosen = $("by-class").value;
    $("by-class").replaceChildren(
      option("", "any"),
      ...store.classes.map((name, i) => option(String(i), name)),
      option("none", "no answer"),
    );
    $("by-class").value = chosen;
    const known = store.clips.some((clip) => clip.truth);
    $("by-state").querySelector("[value=disagree]").hidden = !known;
    this.folders = new Set(store.clips.map((clip) => clip.folder)).size > 1;
    document.body.classList.toggle("one-each", !store.clips.some((c) => c.several || c.person));
  },

  sortBy(column) {
    const again = this.sort.column === column;
    this.sort = again && this.sort.down
      ? { column: -1, down: false }
      : { column, down: again };
    [...$("heads").children].forEach((head, i) => {
      const way = this.sort.down ? "descending" : "ascending";
      head.setAttribute("aria-sort", i === this.sort.column ? way : "none");
    });
    this.filter();
  },

  filter() {
    const words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [byClass, state] = [$("by-class").value, $("by-state").value];
    const [low, high] = $("by-confidence").value.split(" ").map(Number);
    const states = {
      warned: (c) => c.remarks.some((r) => r.kind !== "note"),
      disagree: (c) => c.truth && c.truth.class !== c.class,
      edited: (c) => Boolean(edits.of(c)),
      unedited: (c) => !edits.of(c),
    };
    const fits = (clip) =>
      words.every((word) => clip.words.includes(word)) &&
      (byClass === "" || (byClass === "none" ? clip.class === null : clip.class === Number(byClass))) &&
      ($("by-confidence").value === "" || (clip.class !== null && clip.confidence >= low && clip.confidence < high)) &&
      (state === "" || states[state](clip));
    this.shown = store.clips.filter(fits);
    const { column, down } = this.sort;
    if (column >= 0) {
      const { key } = COLUMNS[column];
      const keys = new Map(this.shown.map((clip) => [clip, key(clip)]));
      const order = (a, b) => (keys.get(a) < keys.get(b) ? -1 : keys.get(a) > keys.get(b) ? 1 : a.id - b.id);
      this.shown.sort((a, b) => (down ? -order(a, b) : order(a, b)));
    }
    const all = store.clips.length;
    const count = this.shown.length;
    $("found").textContent = count === all ? "" : `${count} of ${all} clips`;
    $("grid").setAttribute("aria-rowcount", String(count + 1));
    this.redraw();
  },

  redraw() {
    for (const row of this.drawn.values()) row.remove();
    this.drawn.clear();
    this.draw();
  },

  height() {
    return parseFloat(style("--row")) || 36;
  },

  /** Draws the rows in sight, and takes away those that are not. */
  draw() {
    const [grid, rows, height] = [$("grid"), $("rows"), this.height()];
    rows.style.height = `${this.shown.length * height}px`;
    const first = Math.max(0, Math.floor(grid.scrollTop / height) - 4);
    const end = Math.min(this.shown.length, Math.ceil((grid.scrollTop + grid.clientHeight) / height) + 4);
    for (const [i, row] of this.drawn) {
      if (i >= first && i < end) continue;
      row.remove();
      this.drawn.delete(i);
    }
    for (let i = first; i < end; i += 1) {
      if (this.drawn.has(i)) continue;
      const row = this.row(this.shown[i], i);
      row.style.top = `${i * height}px`;
      this.drawn.set(i, row);
      rows.append(row);
    }
    this.mark();
  },

  row(clip, i) {
    const cell = (k, ...children) => make("div", { role: "gridcell", class: `cell c${k}` }, ...children);
    const whole = edits.whole(clip);
    const edited = edits.of(clip);
    const said = edited && whole !== undefined ? whole : null;
    const ranges = edits.ranges(clip).length;
    const corrected = edited
      ? make("span", { class: "corrected", title: "Corrected" }, said ?? (whole === LEFT_OUT ? "left out" : ranges === 1 ? "1 stretch" : `${ranges} stretches`))
      : null;
    const truth = !edited && clip.truth && clip.truth.class !== clip.class
      ? make("span", { class: "truth", title: "What the label says" }, `≠ ${store.classes[clip.truth.class]}`)
      : null;
    const refused = clip.remarks.some((r) => r.kind === "refusal");
    const warned = clip.remarks.filter((r) => r.kind === "warning").length;
    const words = clip.remarks.map((r) => r.text).join("\n");
    return make("div", {
      role: "row", class: "row", id: `row-${i}`, "aria-rowindex": i + 2,
      onclick: () => {
        this.current = i;
        open(clip);
      },
    },
    cell(0, make("span", { class: "file", title: clip.file.file }, clip.name), this.folders && clip.folder ? make("span", { class: "folder" }, clip.folder) : null),
    cell(1, clip.person || clip.several ? String(clip.person ?? clip.k + 1) : ""),
    cell(2, ...named(clip.class, corrected !== null), corrected, truth),
    cell(3, clip.class === null ? "" : meter(clip.confidence, store.colours[clip.class])),
    cell(4, clip.seen ? percent(clip.seen[0] / Math.max(clip.seen[1], 1)) : "–"),
    cell(5, clip.remarked ? make("span", { class: refused ? "remark refused" : warned ? "remark warned" : "remark", title: words }, remarkWord(clip)) : ""));
  },

  mark() {
    for (const [i, row] of this.drawn) {
      const chosen = this.shown[i] === view.clip && document.body.dataset.view !== "list";
      row.classList.toggle("current", i === this.current);
      row.setAttribute("aria-selected", String(chosen || i === this.current));
    }
    const there = this.drawn.has(this.current);
    if (there) $("grid").setAttribute("aria-activedescendant", `row-${this.current}`);
    else $("grid").removeAttribute("aria-activedescendant");
  },

  /** Goes to another row; the clip that is there. */
  move(by) {
    const at = this.current < 0 && by < 0 ? 0 : this.current + by;
    this.current = clamp(at, 0, this.shown.length - 1);
    const [grid, height] = [$("grid"), this.height()];
    const top = this.current * height;
    const room = grid.clientHeight - 2 * height;
    grid.scrollTop = clamp(grid.scrollTop, top - room, top);
    this.draw();
    return this.shown[this.current];
  },
};

function remarkWord(clip) {
  const refused = clip.remarks.some((r) => r.kind === "refusal");
  const n = clip.remarked;
  if (refused && clip.class === null) return clip.remarks.find((r) => r.kind === "refusal").text.replace(/^no answer: /, "").replace(/ \(.*$/, "");
  return n === 1 ? "1 remark" : `${n} remarks`;
}

/** A class by colour and name; what stands where there is no answer. */
function named(place, faint = false) {
  if (place === null || place === undefined) return [make("span", { class: "none" }, "no answer")];
  const dot = make("i", { class: "dot", "aria-hidden": "true" });
  dot.style.background = tint(store.colours[place]);
  return [dot, make("span", { class: faint ? "name was" : "name" }, store.classes[place])];
}

function meter(value, colour) {
  const bar = make("i", { "aria-hidden": "true" });
  bar.style.width = percent(value).replace(" ", "");
  bar.style.background = tint(colour);
  return make("span", { class: "meter" }, make("b", {}, percent(value)), make("span", { class: "track" }, bar));
}
