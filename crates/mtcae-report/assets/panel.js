// Beside and under the picture: what is said at this moment, and what is right.

const panel = {
  bars: [],
  units: [],
  said: "",

  open(clip) {
    this.clip = clip;
    $("name").textContent = clip.name;
    $("name").title = clip.file.file;
    this.people(clip);
    const read = store.columns(clip);
    this.bars = clip.file.classes.map((place) => {
      const fill = make("i", {});
      fill.style.background = tint(store.colours[place]);
      const value = make("b", {});
      const [dot, name] = named(place);
      const bar = make("div", {
        class: "bar",
        onpointerenter: () => this.light(place),
        onpointerleave: () => this.light(-1),
      }, dot, name, make("span", { class: "track" }, fill), value);
      return { bar, fill, value };
    });
    $("bars").replaceChildren(...this.bars.map((b) => b.bar));
    const tints = unitColours(clip.file.units);
    this.units = clip.file.units.map((name, u) => {
      const fill = make("i", {});
      fill.style.background = tint(tints[u]);
      const title = `${name}${ACTIONS[name] ? `: ${ACTIONS[name]}` : ""}`;
      const bar = make("div", {
        class: "unit", title,
        onpointerenter: () => this.light(u, "units"),
        onpointerleave: () => this.light(-1, "units"),
      },
        make("span", { class: "column" }, fill), make("span", {}, name.replace(/^AU/, "")));
      return { bar, fill };
    });
    $("units").hidden = this.units.length === 0;
    $("units").replaceChildren(
      make("h3", {}, "Action units"),
      make("div", { class: "columns", role: "img" }, ...this.units.map((u) => u.bar)),
    );
    this.choices(clip);
    this.remarks(clip);
    this.answer(clip, read);
  },

  light(place, curves = "classes") {
    if (timeline.curves !== curves) return;
    timeline.lit = place;
    timeline.redraw();
  },

  people(clip) {
    const all = clip.file.clips;
    $("people").hidden = all.length < 2;
    $("people").replaceChildren(...all.map((other) =>
      make("button", {
        type: "button", class: "tab", "aria-pressed": String(other === clip),
        onclick: () => open(other, { time: player.time }),
      }, `Person ${other.person ?? other.k + 1}`)));
    const at = list.shown.indexOf(clip);
    $("where").textContent = at >= 0 ? `${at + 1} of ${list.shown.length}` : "";
  },

  remarks(clip) {
    const more = clip.remarked - clip.remarks.length;
    const items = clip.remarks.map((r) => make("li", { class: r.kind }, r.text));
    if (more > 0) items.push(make("li", { class: "note" }, `and ${more} more`));
    if (clip.truth) {
      const right = clip.truth.class === clip.class;
      items.unshift(make("li", { class: right ? "note" : "warning" }, `the label says ${store.classes[clip.truth.class]}`));
    }
    $("remarks").replaceChildren(...items);
  },

  /** What is said at the playhead. */
  at(time) {
    const { clip } = view;
    // Time is set before the bars are there.
    const read = clip && this.clip === clip && store.columns(clip);
    if (!read) return;
    const i = pointAt(read, time);
    this.bars.forEach(({ fill, value }, c) => {
      const p = i < 0 ? NaN : probability(read, i, c);
      fill.style.width = Number.isNaN(p) ? "0" : `${(100 * p).toFixed(1)}%`;
      value.textContent = Number.isNaN(p) ? "–" : percent(p);
    });
    const frame = frameAt(read, time);
    this.units.forEach(({ fill }, u) => {
      const v = frame < 0 ? 255 : read.strengths[frame * read.units + u];
      fill.style.height = v === 255 ? "0" : `${((100 * v) / 254).toFixed(0)}%`;
    });
    const best = this.units
      .map((_, u) => [read.strengths[frame * read.units + u], clip.file.units[u]])
      .filter(([v]) => v !== 255 && v > 64)
      .sort((a, b) => b[0] - a[0]);
    const columns = $("units").querySelector(".columns");
    columns.ariaLabel = best.length
      ? `strongest: ${best.slice(0, 3).map(([v, name]) => `${name} ${percent(v / 254)}`).join(", ")}`
      : "none is strong";
    this.answer(clip, read, i);
  },

  answer(clip, read, i = -1) {
    const c = read && i >= 0 ? read.curveSaid[i] : 255;
    const reasons = read && i >= 0 ? remarksAt(read, i).filter((r) => r.kind === "refusal") : [];
    const words = c === 255
      ? reasons[0]?.text.replace(/^no answer: /, "") ?? "no answer"
      : "";
    const key = `${clip.id} ${c} ${words}`;
    const value = c === 255 ? "" : percent(probability(read, i, c));
    // Only what has changed is said anew, and not each per cent.
    if (key !== this.said) {
      this.said = key;
      $("answer").replaceChildren(
        ...named(c === 255 ? null : clip.file.classes[c]),
        c === 255 ? make("small", {}, words === "no answer" ? "" : words) : "",
      );
    }
    $("answer").dataset.value = value;
  },

  choices(clip) {
    const classes = clip.file.classes.length ? clip.file.classes : store.classes.map((_, i) => i);
    const ranged = $("scope-range").checked;
    const whole = edits.whole(clip);
    const button = (key, name, ...children) => make("button", {
      type: "button", class: "choice", title: key ? `Key ${key}` : null,
      "aria-pressed": String(!ranged && whole === name),
      onclick: () => this.correct(name),
    }, ...children, key ? make("kbd", {}, key) : null);
    $("choices").replaceChildren(
      ...classes.map((place, k) => button(k < 9 ? String(k + 1) : "", store.classes[place], ...named(place))),
      button("0", LEFT_OUT, make("span", { class: "name" }, "no face, leave out")),
    );
    const lines = edits.of(clip)
      ? (edits.of(clip).ranges ?? [null]).map((range) => {
        const name = range ? range.class : whole;
        const where = range ? `${clock(range.from, 1)} – ${clock(range.to, 1)}` : "whole clip";
        return make("li", {},
          ...(name === LEFT_OUT ? [make("span", { class: "name" }, "left out")] : named(store.classes.indexOf(name))),
          make("span", { class: "where" }, where),
          make("button", { type: "button", class: "quiet", "aria-label": `Take the correction of ${where} away`, onclick: () => edits.remove(clip, range) }, "×"));
      })
      : [];
    $("done").replaceChildren(...lines);
    const still = player.end <= 0 || clip.file.still;
    $("scope-range").disabled = still;
  },

  correct(name) {
    const { clip } = view;
    if (!clip) return;
    const what = name === LEFT_OUT ? "left out" : name;
    if ($("scope-range").checked && !$("scope-range").disabled) {
      edits.setRange(clip, timeline.from, timeline.to, name);
      say(`${clock(timeline.from, 1)} to ${clock(timeline.to, 1)} of ${clip.name} is ${what}`);
    } else {
      edits.setWhole(clip, name);
      say(`${clip.name} is ${what}`);
    }
  },
};

/** What action units do, in the words of the Facial Action Coding System. */
const ACTIONS = {
  AU1: "inner brow raiser", AU2: "outer brow raiser", AU4: "brow lowerer", AU5: "upper lid raiser",
  AU6: "cheek raiser", AU7: "lid tightener", AU9: "nose wrinkler", AU10: "upper lip raiser",
  AU12: "lip corner puller", AU14: "dimpler", AU15: "lip corner depressor", AU17: "chin raiser",
  AU20: "lip stretcher", AU23: "lip tightener", AU24: "lip pressor", AU25: "lips part",
  AU26: "jaw drop", AU43: "eyes closed", AU45: "blink",
};
