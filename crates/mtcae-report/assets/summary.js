// What there is in all, how right it is, and where it comes from.

const summary = {
  show(evaluation, purpose) {
    $("summary").replaceChildren(
      this.counts(),
      ...(evaluation ? this.measured(evaluation) : []),
      this.origin(purpose),
    );
  },

  counts() {
    const counts = store.classes.map((_, c) => store.clips.filter((clip) => clip.class === c).length);
    const none = store.clips.filter((clip) => clip.class === null).length;
    const most = Math.max(...counts, none, 1);
    const bar = (children, n, colour) => {
      const fill = make("i", {});
      fill.style.width = `${(100 * n) / most}%`;
      fill.style.background = colour;
      return make("div", { class: "bar" }, ...children, make("span", { class: "track" }, fill), make("b", {}, String(n)));
    };
    return make("section", { class: "card" },
      make("h2", {}, "Answers"),
      make("p", { class: "quietly" }, `${store.clips.length} ${store.clips.length === 1 ? "clip" : "clips"} of ${store.files.length} ${store.files.length === 1 ? "file" : "files"}; of windows, by the mean over the clip.`),
      make("div", { class: "bars" },
        ...counts.map((n, c) => bar(named(c), n, tint(store.colours[c]))),
        bar([make("i", { class: "dot hollow" }), make("span", { class: "name" }, "no answer")], none, style("--faint"))));
  },

  measured({ labels, summary: s, unanswered, worst, notes }) {
    const cards = [];
    if (s) {
      const figure = (value, name, chance) => make("div", { class: "figure" },
        make("b", {}, `${(100 * value).toFixed(1)} %`), make("span", {}, name),
        make("small", {}, chance === null ? "" : `${(100 * chance).toFixed(1)} % without looking`));
      cards.push(make("section", { class: "card" },
        make("h2", {}, `Against ${labels}`),
        make("div", { class: "figures" },
          figure(s.uar, "mean recall of the classes (UAR)", s.uar_chance),
          figure(s.war, "right answers (WAR)", s.war_chance),
          figure(s.macro_f1, "mean F1 of the classes", null)),
        make("p", { class: "quietly" }, `${s.clips} clips with a label and an answer${unanswered ? `; ${unanswered} more have a label and no answer, and count for nothing` : ""}.`),
        this.matrix(s)));
    }
    if (worst.length) {
      const row = ([file, person]) => {
        const clip = store.files[file].clips[person];
        return make("li", {}, make("a", { href: `#clip-${clip.id}` }, clip.name),
          make("span", { class: "said" }, ...named(clip.class), make("b", {}, percent(clip.confidence))),
          make("span", { class: "said" }, "label ", ...named(clip.truth.class)));
      };
      cards.push(make("section", { class: "card" }, make("h2", {}, "Wrong, and sure of it"), make("ol", { class: "worst" }, ...worst.map(row))));
    }
    cards.push(make("section", { class: "card" }, make("h2", {}, s ? "Labels" : `Labels of ${labels}`),
      s ? null : make("p", {}, "No clip has both a label and an answer."),
      make("ul", { class: "plain" }, ...notes.map((n) => make("li", {}, n)))));
    return cards;
  },

  matrix({ classes, confusion }) {
    const used = classes.map((_, c) => c).filter((c) => classes[c].support > 0 || classes[c].predicted > 0);
    const head = make("tr", {}, make("th", { scope: "col" }, "label \\ answer"),
      ...used.map((c) => make("th", { scope: "col" }, classes[c].name)), make("th", { scope: "col" }, "recall"));
    const rows = used.map((t) => make("tr", {}, make("th", { scope: "row" }, classes[t].name),
      ...used.map((p) => {
        const n = confusion[t][p];
        const share = n / Math.max(classes[t].support, 1);
        const cell = make("td", { class: t === p ? "right" : "", title: `${classes[t].name} taken for ${classes[p].name}: ${n}` }, n ? String(n) : "·");
        cell.style.setProperty("--share", share.toFixed(3));
        return cell;
      }),
      make("td", { class: "recall" }, classes[t].recall === null ? "–" : percent(classes[t].recall))));
    return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Confusion matrix" },
      make("table", { class: "confusion" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  },

  origin(purpose) {
    const items = store.models.flatMap((model) => {
      const { identity } = model;
      const hashes = Object.entries(identity?.files ?? {}).map(([name, sha]) => `${name} ${sha.slice(0, 12)}`);
      return [
        make("dt", {}, identity ? identity.name : "a model that the results do not name"),
        make("dd", {}, model.trained_on ? `trained on ${model.trained_on}` : "its weights were not trained: the numbers mean nothing",
          make("br"), [model.program, ...hashes].filter(Boolean).join(" · ")),
      ];
    });
    return make("section", { class: "card" }, make("h2", {}, "Where it comes from"),
      make("dl", { class: "origin" }, ...items), make("p", { class: "quietly" }, purpose));
  },
};
