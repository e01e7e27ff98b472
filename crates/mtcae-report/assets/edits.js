// Corrections: made, taken back, kept, and saved as a label file.

/** No class: the clip is left out of training. */
const LEFT_OUT = null;

const edits = {
  /** By clip: `{ whole }` or `{ ranges: [{ from, to, class }] }`; a class by name. */
  all: {},
  past: [],
  unsaved: false,
  place: `mtcae-report:${location.pathname}`,
  listeners: [],

  load() {
    const before = kept.get(this.place);
    if (before && before.all) {
      this.all = before.all;
      this.unsaved = Boolean(before.unsaved);
    }
    addEventListener("beforeunload", (event) => {
      if (this.unsaved) event.preventDefault();
    });
  },

  of(clip) {
    return this.all[clip.key];
  },

  /** What a clip was corrected to as a whole: a name, null for left out, undefined for none. */
  whole(clip) {
    return this.all[clip.key]?.whole;
  },

  ranges(clip) {
    return this.all[clip.key]?.ranges ?? [];
  },

  count() {
    return store.clips.filter((clip) => this.of(clip)).length;
  },

  setWhole(clip, name) {
    this.change(clip, { whole: name });
  },

  /** A stretch; earlier ones give way where they overlap. */
  setRange(clip, from, to, name) {
    const others = this.ranges(clip).flatMap((r) => [
      { ...r, to: Math.min(r.to, from) },
      { ...r, from: Math.max(r.from, to) },
    ]);
    const ranges = [...others.filter((r) => r.to - r.from > 1e-3), { from, to, class: name }];
    ranges.sort((a, b) => a.from - b.from);
    this.change(clip, { ranges });
  },

  /** Takes one correction of a clip away. */
  remove(clip, range) {
    const ranges = this.ranges(clip).filter((r) => r !== range);
    this.change(clip, range && ranges.length ? { ranges } : undefined);
  },

  change(clip, now) {
    this.past.push([clip.key, this.all[clip.key]]);
    if (now === undefined) delete this.all[clip.key];
    else this.all[clip.key] = now;
    this.changed(true);
  },

  undo() {
    const last = this.past.pop();
    if (!last) return;
    const [key, before] = last;
    if (before === undefined) delete this.all[key];
    else this.all[key] = before;
    this.changed(true);
  },

  changed(unsaved) {
    this.unsaved = unsaved && (this.past.length > 0 || Object.keys(this.all).length > 0);
    if (!kept.set(this.place, { all: this.all, unsaved: this.unsaved })) {
      say("The browser does not keep corrections: save before you leave.");
    }
    for (const listener of this.listeners) listener();
  },

  /** All corrections as a label file, and the clips whose faces are not known. */
  labels() {
    const [lines, faceless] = [[], []];
    for (const clip of store.clips) {
      const edit = this.of(clip);
      if (!edit) continue;
      const parts = edit.ranges ?? [{ from: -Infinity, to: Infinity, class: edit.whole }];
      for (const part of parts) {
        const labelled = labelLines(clip, part);
        if (labelled.some((l) => l.class !== null && l.tracks.length === 0)) faceless.push(clip);
        lines.push(...labelled);
      }
    }
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    return { text, lines: lines.length, faceless };
  },
};

const five = (value) => Math.round(value * 1e5) / 1e5;

/** The lines of a label file that say a class of a part of a clip: one, or one for each
 * stretch of time in which the face is seen, since a track has no gaps. */
function labelLines(clip, part) {
  const read = store.columns(clip);
  const { file } = clip;
  const several = clip.several ? `${file.label} person ${clip.person ?? clip.k + 1}` : null;
  const settings = {
    ...store.settings,
    detect_at: file.detect_at ?? store.settings.detect_at,
    detector: { ...store.settings.detector, min_face: file.min_face },
  };
  const line = (frames, faces) => ({
    schema: "mtcae-labels/1",
    file: file.label,
    sha256: file.sha256,
    dataset: "report",
    class: part.class,
    subject: clip.truth?.subject ?? several,
    sex: clip.truth?.sex ?? null,
    level: clip.truth?.level ?? null,
    fold: null,
    settings,
    source: { width: file.size[0], height: file.size[1], pixel_aspect: file.aspect },
    frames,
    tracks: faces.length ? [{ id: 0, is_subject: true, faces }] : [],
    warnings: clip.remarks.filter((r) => r.kind === "warning").map((r) => r.text),
    error: null,
  });
  if (!read || part.class === LEFT_OUT) return [line([], [])];
  const stretches = seen(read, part, store.settings.tracking.max_gap);
  if (stretches.length === 0) return [line([], [])];
  return stretches.map(([first, end]) => {
    // One frame more on either side says that the face is not labelled there.
    const [from, to] = [Math.max(first - 1, 0), Math.min(end + 1, read.frames)];
    const faces = tracked(read, first, end, from);
    const validity = new Map(faces.map((f) => [f.frame, f.validity]));
    const frames = [];
    for (let i = from; i < to; i += 1) {
      const at = validity.get(i - from) ?? "none";
      frames.push({ index: read.indices[i], time: read.times[i], validity: at });
    }
    return line(frames, faces);
  });
}

/** Stretches of frames in a part, first and end, in which the detector's face is missing in
 * no more frames in a row than a track bears. */
function seen(read, part, gap) {
  const all = [];
  for (let i = 0; i < read.frames; i += 1) {
    if (read.times[i] < part.from || read.times[i] > part.to) continue;
    if (read.detected[14 * i] === NOTHING) continue;
    const before = all[all.length - 1];
    if (before && i - before[1] <= gap) before[1] = i + 1;
    else all.push([i, i + 1]);
  }
  return all;
}

/** The faces of a track from one frame to the one before another, places counted from
 * `origin`; what is missing lies on the straight line in time. */
function tracked(read, first, end, origin) {
  const faces = [];
  let before = first;
  for (let i = first; i < end; i += 1) {
    let [numbers, found] = [face(read.detected, i), read.scores[i] > 0];
    if (numbers) {
      before = i;
    } else {
      let after = i + 1;
      while (read.detected[14 * after] === NOTHING) after += 1;
      const share = (read.times[i] - read.times[before]) / (read.times[after] - read.times[before]);
      const [a, b] = [face(read.detected, before), face(read.detected, after)];
      numbers = a.map((v, k) => v + share * (b[k] - v));
      found = false;
    }
    const n = Array.from(numbers, five);
    faces.push({
      frame: i - origin,
      validity: found ? "detected" : "interpolated",
      score: found ? five(read.scores[i] / 65534) : 0,
      box: n.slice(0, 4),
      landmarks: [0, 1, 2, 3, 4].map((k) => [n[4 + 2 * k], n[5 + 2 * k]]),
    });
  }
  return faces;
}

/** Hands the corrections over as a file. */
function saveLabels() {
  const { text, lines, faceless } = edits.labels();
  if (lines === 0) return;
  const url = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  make("a", { href: url, download: "corrections.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  edits.changed(false);
  const root = /^[\w./-]+$/.test(store.root) ? store.root : `'${store.root.replaceAll("'", "'\\''")}'`;
  const without = faceless.length
    ? ` ${faceless.length} have no face of MTCNN, which training leaves out.`
    : "";
  const words = `${lines} ${lines === 1 ? "line" : "lines"} saved as corrections.jsonl.${without}`;
  say(words);
  $("foot").dispatchEvent(new CustomEvent("saved", {
    detail: { words, command: `mtcae train --labels corrections.jsonl --root ${root} …` },
  }));
}
