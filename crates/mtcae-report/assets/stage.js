// The picture: the video, or a clock where it cannot be shown, and the faces over it.

/** Time that goes on: the video's, or a clock's. */
const player = {
  time: 0,
  end: 0,
  playing: false,
  /** Whether the video's frames set the time. */
  live: false,
  started: 0,
  listeners: [],

  begin() {
    const video = $("video");
    video.addEventListener("loadedmetadata", () => {
      if (!this.clip) return;
      this.live = true;
      this.lengthen(video.duration);
      // What was asked for before the video was there.
      if (Math.abs(video.currentTime - this.time) > 1e-3) video.currentTime = this.time;
      if (this.playing) this.start();
      stage.place();
    });
    video.addEventListener("error", () => this.lose());
    video.addEventListener("play", () => this.state(true));
    video.addEventListener("pause", () => this.live && this.state(false));
    video.addEventListener("ended", () => this.state(false));
    video.addEventListener("seeked", () => this.live && this.at(video.currentTime));
    video.addEventListener("timeupdate", () => {
      if (this.live && !this.follows()) this.at(video.currentTime);
    });
    if (this.follows()) {
      const frame = (_, { mediaTime }) => {
        if (this.live) this.at(mediaTime);
        video.requestVideoFrameCallback(frame);
      };
      video.requestVideoFrameCallback(frame);
    }
    const tick = (now) => {
      if (this.playing && !this.live) {
        this.at(this.time + Math.min((now - this.started) / 1000, 0.25));
        if (this.time >= this.end) {
          this.state(false);
          course.follow(true);
        }
      } else if (this.playing && !this.follows()) {
        this.at(video.currentTime);
      }
      this.started = now;
      if (this.playing) requestAnimationFrame(tick);
      else this.ticking = false;
    };
    this.tick = () => {
      if (this.ticking) return;
      this.ticking = true;
      this.started = performance.now();
      requestAnimationFrame(tick);
    };
  },

  /** A video may be longer than what was looked at. */
  lengthen(duration) {
    if (!(Number.isFinite(duration) && duration > this.end)) return;
    const whole = timeline.to - timeline.from > this.end - 1e-6;
    this.end = duration;
    if (whole) timeline.fit();
  },

  follows: () => "requestVideoFrameCallback" in HTMLVideoElement.prototype,

  /** Another clip, from some time on. The same video goes on. */
  open(clip, time) {
    const same = this.clip && this.clip.file === clip.file;
    this.clip = clip;
    if (same) return this.seek(time);
    this.end = Math.max(...clip.file.clips.map((c) => c.end));
    this.pause();
    this.live = false;
    this.time = time;
    const [video, still] = [$("video"), $("still")];
    $("lost").hidden = true;
    video.hidden = clip.file.still;
    still.hidden = !clip.file.still;
    video.removeAttribute("src");
    still.removeAttribute("src");
    if (!clip.file.link) this.lose();
    else if (clip.file.still) {
      still.onerror = () => this.lose();
      still.src = clip.file.link;
      video.load();
    } else {
      video.src = clip.file.link;
      video.load();
    }
    this.at(time);
  },

  lose() {
    const { clip } = this;
    if (!clip || (!clip.file.still && !$("video").getAttribute("src") && clip.file.link)) return;
    this.live = false;
    $("video").hidden = true;
    $("still").hidden = true;
    const lost = $("lost");
    lost.textContent = course.on
      ? "The picture stays where it is taken: only boxes, landmarks and answers are shown."
      : `The browser cannot find or play ${clip.name}${clip.file.link ? ` (${unescaped(clip.file.link)})` : ""}. Faces and time line are shown without it.`;
    lost.hidden = false;
    stage.place();
  },

  at(time) {
    this.time = clamp(time, 0, Math.max(this.end, 0));
    for (const listener of this.listeners) listener(this.time);
  },

  seek(time) {
    const to = clamp(time, 0, this.end);
    course.following = course.on && !course.over && to > this.end - 0.05;
    if (this.live) {
      const { duration } = $("video");
      // A hair past the frame's time, or browsers show the one before.
      $("video").currentTime = Number.isFinite(duration) ? Math.min(to + 1e-4, duration) : to;
    }
    this.at(to);
  },

  state(playing) {
    this.playing = playing;
    if (playing) this.tick();
    for (const listener of this.listeners) listener(this.time);
  },

  start() {
    if (this.clip?.file.still) return;
    if (this.time >= this.end - 0.05) this.seek(0);
    this.state(true);
    if (this.live) $("video").play().catch(() => this.state(false));
  },

  pause() {
    this.state(false);
    $("video").pause();
  },

  toggle() {
    if (course.toggle()) return;
    if (this.playing) this.pause();
    else this.start();
  },
};

/** A link as it is read, where its bytes are text. */
function unescaped(link) {
  try {
    return decodeURIComponent(link);
  } catch {
    return link;
  }
}

const stage = {
  begin() {
    new ResizeObserver(() => this.draw()).observe($("frame"));
    for (const id of ["show-model", "show-detector", "show-names"]) {
      $(id).addEventListener("change", () => this.draw());
    }
    $("play").addEventListener("click", () => player.toggle());
    $("frame").addEventListener("click", () => player.toggle());
    $("back-frame").addEventListener("click", () => this.step(-1));
    $("next-frame").addEventListener("click", () => this.step(1));
    player.listeners.push(() => this.draw());
  },

  /** The picture has the shape of the source, whatever becomes of the video. */
  place() {
    this.shape();
    this.draw();
  },

  shape() {
    const { file } = view.clip;
    const [width, height] = [file.size[0] * file.aspect || 16, file.size[1] || 9];
    $("frame").style.aspectRatio = `${width} / ${height}`;
    $("frame").style.setProperty("--shape", String(width / height));
    // What else is to be seen without scrolling: tabs and lanes of others among it.
    const others = file.clips.length - 1;
    $("frame").style.setProperty("--below", `${586 + (others ? 36 : 0) + 24 * Math.min(others, 5)}px`);
  },

  /** To the looked-at frame before or after. */
  step(by) {
    const read = view.clip && store.columns(view.clip);
    if (!read || read.frames === 0) return;
    player.pause();
    const here = last(read.times, player.time + 2e-3);
    const exact = here >= 0 && Math.abs(read.times[here] - player.time) < 2e-3;
    const to = by > 0 ? here + 1 : exact ? here - 1 : here;
    player.seek(read.times[clamp(to, 0, read.frames - 1)]);
  },

  draw() {
    const { clip } = view;
    if (!clip) return;
    const frame = $("frame");
    const [width, height] = [frame.clientWidth, frame.clientHeight];
    const context = fit($("overlay"), width, height);
    const { time } = player;
    $("time").textContent = `${clock(time, 2)} / ${clock(player.end)}`;
    const play = $("play");
    const goes = player.playing || course.following;
    play.textContent = goes ? "❚❚" : "▶";
    play.ariaLabel = goes ? "Pause" : "Play";
    $("edge").setAttribute("aria-pressed", String(course.following));
    play.disabled = clip.file.still;
    frame.dataset.face = "";
    for (const other of clip.file.clips) {
      const read = store.columns(other);
      if (!read) continue;
      const chosen = other === clip;
      context.globalAlpha = chosen ? 1 : 0.55;
      if ($("show-detector").checked) {
        const found = faceAt(read, read.detected, time);
        if (found) drawFace(context, found, [width, height], "#5ab4ff", [5, 4]);
      }
      const said = faceAt(read, read.model, time);
      if (said && $("show-model").checked) {
        drawFace(context, said, [width, height], "#56dc78", []);
        if (chosen) frame.dataset.face = Array.from(said.slice(0, 4), (v) => v.toFixed(4)).join(" ");
      }
      const anchor = said ?? faceAt(read, read.detected, time);
      if (anchor && $("show-names").checked) drawName(context, anchor, [width, height], nameAt(other, read, time));
    }
    context.globalAlpha = 1;
  },
};

function nameAt(clip, read, time) {
  const i = pointAt(read, time);
  const who = clip.several ? `${clip.person ?? clip.k + 1}  ` : "";
  if (i < 0 || read.curveSaid[i] === 255) return { text: `${who}no answer`, colour: "#d0d4da" };
  const c = read.curveSaid[i];
  const place = clip.file.classes[c];
  return { text: `${who}${store.classes[place]} ${percent(probability(read, i, c))}`, colour: store.colours[place].pair[1] };
}

function drawFace(context, numbers, [width, height], colour, dash) {
  const [x1, y1, x2, y2] = [numbers[0] * width, numbers[1] * height, numbers[2] * width, numbers[3] * height];
  for (const [stroke, thick] of [["rgba(0,0,0,.55)", 3.5], [colour, 1.75]]) {
    context.lineWidth = thick;
    context.strokeStyle = stroke;
    context.setLineDash(dash);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  context.setLineDash([]);
  if (!numbers.marked) return;
  const radius = clamp((x2 - x1) / 45, 2, 4);
  for (let k = 0; k < 5; k += 1) {
    context.beginPath();
    context.arc(numbers[4 + 2 * k] * width, numbers[5 + 2 * k] * height, radius, 0, 7);
    context.fillStyle = colour;
    context.fill();
    context.lineWidth = 1;
    context.strokeStyle = "rgba(0,0,0,.6)";
    context.stroke();
  }
}

function drawName(context, numbers, [width, height], { text, colour }) {
  context.font = "600 12px system-ui, sans-serif";
  const wide = context.measureText(text).width + 22;
  const x = clamp(numbers[0] * width, 0, Math.max(width - wide, 0));
  const above = numbers[1] * height - 22;
  const y = above >= 0 ? above : clamp(numbers[3] * height + 2, 0, height - 20);
  context.fillStyle = "rgba(12,14,18,.82)";
  context.beginPath();
  context.roundRect(x, y, wide, 20, 4);
  context.fill();
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x + 9, y + 10, 4, 0, 7);
  context.fill();
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.fillText(text, x + 17, y + 10.5);
}
