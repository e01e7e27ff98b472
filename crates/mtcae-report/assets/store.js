// Results as they arrive, and their numbers as columns.

const NOTHING = 65535;

/** Everything that is known of clips. `add` takes results one by one, at any time. */
const store = {
  classes: [],
  colours: [],
  models: [],
  clips: [],
  files: [],
  settings: null,
  root: ".",
  listeners: [],

  /** What holds for all results: classes, models, settings of labels. What comes later may
   * bring more classes and models, behind those that were there. */
  begin({ classes = [], models = this.models, settings = this.settings, root = this.root }) {
    this.models = models;
    this.settings = settings;
    this.root = root;
    for (const name of classes) if (!this.classes.includes(name)) this.classes.push(name);
    this.colours = colours(this.classes);
  },

  /** Adds the results of one file. `pack` gives its columns in base64 when they are asked
   * for: null as long as they are not there. */
  add(results, pack) {
    const file = { ...results, place: this.files.length, pack, unpacked: null };
    this.files.push(file);
    file.clips = [];
    for (const person of file.people) this.clip(file, person);
    for (const listener of this.listeners) listener(file);
  },

  /** Adds a person to a file; their clip. */
  clip(file, person) {
    const name = file.file.split(/[\\/]/).pop();
    const k = file.clips.length;
    const clip = {
      ...person, file, k, name,
      id: this.clips.length,
      key: `${file.sha256 || file.file}#${person.person ?? k}`,
      folder: file.file.slice(0, file.file.length - name.length).replace(/[\\/]$/, ""),
      columns: null,
    };
    file.clips.push(clip);
    this.clips.push(clip);
    for (const each of file.clips) {
      each.several = file.clips.length > 1;
      each.words = wordsOf(each, each);
    }
    return clip;
  },

  /** Takes clips of a file away. */
  drop(file, gone) {
    file.clips = file.clips.filter((clip) => !gone.has(clip));
    this.clips = this.clips.filter((clip) => !gone.has(clip));
    file.clips.forEach((clip, k) => (clip.k = k));
    this.clips.forEach((clip, id) => (clip.id = id));
  },

  /** The columns of a clip; null as long as they have not arrived. */
  columns(clip) {
    if (!clip.columns) {
      const { file } = clip;
      file.unpacked ??= file.pack() && bytes(file.pack());
      if (!file.unpacked) return null;
      clip.columns = columns(file.unpacked, clip.shape, file.classes.length, file.units.length);
    }
    return clip.columns;
  },

  /** Lets go of the numbers of all files but one. */
  keep(file) {
    for (const other of this.files) {
      if (other === file || !other.unpacked) continue;
      other.unpacked = null;
      for (const clip of other.clips) clip.columns = null;
    }
  },
};

/** What a clip is found by. */
const wordsOf = (clip, { remarks }) => [clip.file.file, clip.several ? `person ${clip.person ?? clip.k + 1}` : "",
  ...remarks.map((r) => r.text)].join(" ").toLowerCase();

function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const all = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) all[i] = text.charCodeAt(i);
  return all;
}

/** Views of the columns, in the order in which they were written. */
function columns(all, shape, classes, units) {
  let at = all.byteOffset + shape.at;
  const take = (Kind, length) => {
    const column = new Kind(all.buffer, at, length);
    at = Math.ceil((at + column.byteLength) / 8) * 8;
    return column;
  };
  const { windows: w, points: p, frames: f } = shape;
  const read = {
    classes, units,
    windows: w, points: p, frames: f,
    bounds: take(Float64Array, 2 * w),
    probabilities: take(Uint16Array, w * classes),
    said: take(Uint8Array, w),
    notes: take(Uint16Array, w),
    seen: take(Uint16Array, 2 * w),
    smooth: take(Uint16Array, p * classes),
    smoothSaid: take(Uint8Array, p),
    times: take(Float64Array, f),
    indices: take(Uint32Array, f),
    model: take(Uint16Array, 14 * f),
    detected: take(Uint16Array, 14 * f),
    scores: take(Uint16Array, f),
    strengths: take(Uint8Array, f * units),
  };
  const texts = take(Uint8Array, shape.texts);
  read.remarks = JSON.parse(new TextDecoder().decode(texts) || "[]");
  return derived(read);
}

/** What follows from columns. */
function derived(read) {
  const { windows: w, points: p } = read;
  // Of windows the smoothed points, of a clip as a whole its one answer from end to end.
  const smoothed = p > 0;
  read.length = smoothed ? p : w;
  read.middles = new Float64Array(read.length);
  for (let i = 0; i < read.length; i += 1) {
    read.middles[i] = (read.bounds[2 * i] + read.bounds[2 * i + 1]) / 2;
  }
  read.curve = smoothed ? read.smooth : read.probabilities;
  read.curveSaid = smoothed ? read.smoothSaid : read.said;
  read.runs = runs(read);
  return read;
}

/** From when to when a point stands for the clip: half way to its neighbours. */
function bounds(read, i) {
  const { middles: m, length: n } = read;
  const from = i > 0 ? (m[i - 1] + m[i]) / 2 : read.bounds[0];
  const to = i + 1 < n ? (m[i] + m[i + 1]) / 2 : read.bounds[2 * n - 1];
  return [from, to];
}

/** Stretches of one answer: from, to, class (255 for none), whether anything warns. */
function runs(read) {
  const all = [];
  for (let i = 0; i < read.length; i += 1) {
    const [from, to] = bounds(read, i);
    const said = read.curveSaid[i];
    const warned = isWarned(read, i);
    const before = all[all.length - 1];
    // A gap between windows is no answer.
    if (before && before.said === said && before.warned === warned && from - before.to < 1e-3) {
      before.to = to;
    } else {
      all.push({ from, to, said, warned });
    }
  }
  return all;
}

function remarksAt(read, i) {
  const note = read.notes[i];
  return note > 0 ? read.remarks[note - 1] ?? [] : [];
}

const isWarned = (read, i) => remarksAt(read, i).some((r) => r.kind === "warning");

/** The point that stands for a time; -1 where there is none. */
function pointAt(read, time) {
  if (read.length === 0) return -1;
  const before = clamp(last(read.middles, time), 0, read.length - 1);
  const i = before + 1 < read.length && read.middles[before + 1] - time < time - read.middles[before] ? before + 1 : before;
  // Of a stream, whoever has gone is not spoken of any more.
  const away = course.on && Math.max(read.bounds[2 * i] - time, time - read.bounds[2 * i + 1]) > APART;
  return away ? -1 : i;
}

const probability = (read, i, c) => {
  const value = read.curve[i * read.classes + c];
  return value === NOTHING ? NaN : value / 65534;
};

const fraction = (value) => value / 32767 - 0.5;

/** A face in fractions of the picture from a column, at a frame; null where there is none. */
function face(column, frame) {
  const at = 14 * frame;
  if (frame < 0 || column[at] === NOTHING) return null;
  const numbers = new Float64Array(14);
  for (let k = 0; k < 14; k += 1) numbers[k] = fraction(column[at + k]);
  numbers.marked = column[at + 4] !== NOTHING;
  return numbers;
}

/** Between two frames this far apart, in seconds, nothing is drawn that was not looked at. */
const APART = 1;

/** A face at a time, between frames on the straight line from one to the next. */
function faceAt(read, column, time) {
  const i = last(read.times, time + 1e-6);
  const before = face(column, i);
  const after = i + 1 < read.frames ? face(column, i + 1) : null;
  const span = i >= 0 && i + 1 < read.frames ? read.times[i + 1] - read.times[i] : Infinity;
  if (before && after && span <= APART) {
    const share = (time - read.times[i]) / span;
    const between = before.map((v, k) => v + share * (after[k] - v));
    between.marked = before.marked && after.marked;
    return between;
  }
  if (before && time - read.times[i] <= APART) return before;
  return after && read.times[i + 1] - time <= APART / 2 ? after : null;
}

/** The looked-at frame nearest to a time; -1 for none. */
function frameAt(read, time) {
  if (read.frames === 0) return -1;
  const i = clamp(last(read.times, time), 0, read.frames - 1);
  return i + 1 < read.frames && read.times[i + 1] - time < time - read.times[i] ? i + 1 : i;
}
