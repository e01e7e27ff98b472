// A course that grows while the page is open: of a stream, which has no end yet.

/** What the page keeps of it: seconds, and people. */
const KEPT = { seconds: 3600, people: 24 };

/** So many seconds are shown at first. */
const SHOWN = 60;

const course = {
  /** Whether the page is of a stream. */
  on: false,
  /** Whether the newest moment is looked at. */
  following: false,
  /** Whether nothing more comes. */
  over: false,
  end: 0,

  begin() {
    [this.on, this.following] = [true, true];
    document.body.classList.add("live");
    $("edge").hidden = false;
    $("edge").addEventListener("click", () => this.follow(true));
  },

  /** Takes what is said of one window: people's last windows, in the place of what there is
   * from there on. */
  take({ results, cuts, classes, pack }) {
    store.begin({ classes });
    if (store.files.length === 0) store.add({ ...results, people: [] }, () => null);
    const [file] = store.files;
    for (const name of ["size", "aspect", "detect_at"]) file[name] = results[name] ?? file[name];
    const all = bytes(pack);
    results.people.forEach((person, k) => {
      const piece = columns(all, person.shape, file.classes.length, file.units.length);
      let clip = file.clips.find((other) => other.person === person.person);
      if (clip) Object.assign(clip, person, { start: clip.start, words: wordsOf(clip, person) });
      else clip = store.clip(file, person);
      clip.columns = grown(clip.columns, piece, cuts[k]);
      this.end = Math.max(this.end, clip.end);
    });
    this.forget(file);
    for (const listener of store.listeners) listener(file);
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.show();
    });
  },

  /** Lets go of those who were not seen for longest. */
  forget(file) {
    const old = file.clips.filter((clip) => clip !== view.clip).sort((a, b) => a.end - b.end);
    const gone = new Set(old.filter((clip, i) => clip.end < this.end - KEPT.seconds || file.clips.length - i > KEPT.people));
    if (gone.size) store.drop(file, gone);
  },

  /** Shows what has come. */
  show() {
    const { clip } = view;
    if (!clip) {
      const first = list.shown[0] ?? store.clips[0];
      if (first && !this.opened) {
        this.opened = true;
        open(first);
        timeline.to = Math.min(timeline.to, SHOWN);
        this.show();
      }
      return;
    }
    const span = timeline.to - timeline.from;
    const whole = span > player.end - 1e-6;
    player.end = this.end;
    timeline.ground = null;
    if (this.following) {
      const shown = whole ? Math.max(Math.min(this.end, SHOWN), Math.min(span, this.end)) : span;
      [timeline.from, timeline.to] = [Math.max(this.end - shown, 0), Math.max(this.end, shown)];
    }
    player.at(this.following ? this.end : player.time);
    panel.remarks(clip);
    stage.shape();
  },

  /** Nothing more comes: what there is plays as a clip does. */
  finish() {
    this.over = true;
    this.show();
    this.following = false;
    $("edge").hidden = true;
    stage.draw();
  },

  /** To the newest moment, or to stay where one is. */
  follow(on) {
    if (!this.on || this.over) return;
    this.following = on;
    if (on) {
      player.state(false);
      this.show();
    } else {
      stage.draw();
    }
  },

  /** Play and pause where the newest moment is looked at: to go along or not. */
  toggle() {
    if (!this.on || this.over || player.playing) return false;
    if (!this.following && player.time < player.end - 0.05) return false;
    this.follow(!this.following);
    return true;
  },
};

/** The columns of a clip with those of a piece in the place of all from its start on, and of
 * frames after `cut`. */
function grown(old, piece, cut) {
  if (!old) return piece;
  const newest = piece.bounds[2 * piece.windows - 1];
  const starts = (value) => {
    let i = 0;
    while (i < old.windows && old.bounds[2 * i] < value) i += 1;
    return i;
  };
  const [from, to] = [starts(newest - KEPT.seconds), starts(piece.bounds[0] - 1e-6)];
  const first = last(old.times, newest - KEPT.seconds) + 1;
  const middle = cut === null ? first : Math.max(last(old.times, cut) + 1, first);
  const after = cut === null ? 0 : last(piece.times, cut) + 1;
  const join = (name, n, begin, end, skipped = 0) => {
    const kept = old[name].subarray(n * begin, n * end);
    const added = piece[name].subarray(n * skipped);
    const all = new added.constructor(kept.length + added.length);
    all.set(kept);
    all.set(added, kept.length);
    return all;
  };
  const read = { classes: piece.classes, units: piece.units, remarks: old.remarks, lists: old.lists };
  for (const [name, n] of [["bounds", 2], ["probabilities", piece.classes], ["said", 1], ["notes", 1],
    ["seen", 2], ["smooth", piece.classes], ["smoothSaid", 1]]) {
    read[name] = join(name, n, from, Math.max(to, from));
  }
  for (const [name, n] of [["times", 1], ["indices", 1], ["model", 14], ["detected", 14], ["scores", 1], ["strengths", piece.units]]) {
    read[name] = join(name, n, first, middle, after);
  }
  read.windows = read.points = read.said.length;
  read.frames = read.times.length;
  note(read, piece);
  return derived(read);
}

/** Remarks of a piece among those that are known, each list once. */
function note(read, piece) {
  read.lists ??= new Map(read.remarks.map((list, i) => [JSON.stringify(list), i + 1]));
  const places = piece.remarks.map((list) => {
    const key = JSON.stringify(list);
    if (!read.lists.has(key) && read.remarks.length < NOTHING) {
      read.remarks.push(list);
      read.lists.set(key, read.remarks.length);
    }
    return read.lists.get(key) ?? 0;
  });
  for (let i = 1; i <= piece.windows; i += 1) {
    const place = read.windows - i;
    if (read.notes[place] > 0) read.notes[place] = places[read.notes[place] - 1] ?? 0;
  }
}
