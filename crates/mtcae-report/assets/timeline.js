// The course of a video: curves of the person chosen, lanes of all, and where one is.

const timeline = {
  from: 0,
  to: 1,
  curves: "classes",
  lit: -1,
  /** All but the playhead, as it was drawn last. */
  ground: null,

  begin() {
    const line = $("line");
    new ResizeObserver(() => this.redraw()).observe(line);
    line.addEventListener("pointerdown", (event) => this.press(event));
    line.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      line.addEventListener(end, () => (this.held = null));
    }
    line.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    $("zoom-in").addEventListener("click", () => this.zoom(0.5));
    $("zoom-out").addEventListener("click", () => this.zoom(2));
    $("zoom-fit").addEventListener("click", () => this.fit());
    $("curve-classes").addEventListener("click", () => this.show("classes"));
    $("curve-units").addEventListener("click", () => this.show("units"));
    player.listeners.push((time) => this.follow(time));
  },

  open(clip) {
    // A still picture has no course.
    document.querySelector(".course").hidden = clip.file.still;
    const units = clip.file.units.length > 0;
    document.querySelector(".series").hidden = !units;
    if (!units) this.curves = "classes";
    this.show(this.curves);
  },

  show(curves) {
    this.curves = curves;
    this.lit = -1;
    for (const name of ["classes", "units"]) {
      $(`curve-${name}`).setAttribute("aria-pressed", String(name === curves));
    }
    this.redraw();
  },

  fit() {
    [this.from, this.to] = [0, Math.max(player.end, 0.1)];
    this.redraw();
  },

  /** Shows a stretch as much longer, around the playhead where that is in sight. */
  zoom(factor, around = player.time) {
    const all = Math.max(player.end, 0.1);
    const middle = around >= this.from && around <= this.to ? around : (this.from + this.to) / 2;
    const span = clamp((this.to - this.from) * factor, Math.min(0.5, all), all);
    const share = (middle - this.from) / (this.to - this.from);
    this.look(middle - share * span, span);
  },

  look(from, span) {
    this.from = clamp(from, 0, Math.max(player.end - span, 0));
    this.to = this.from + span;
    this.redraw();
  },

  /** Where things are drawn: x of the plot, and heights from the top. */
  layout() {
    const line = $("line");
    const [width, narrow] = [line.clientWidth, line.clientWidth < 560];
    const left = narrow ? 34 : 84;
    const lanes = view.clip ? view.clip.file.clips.length : 1;
    const curve = narrow ? 130 : 140;
    const top = 14;
    const lane = 24;
    const laneTop = top + curve + 10;
    const axis = laneTop + lanes * lane + 4;
    // A strip of the whole is below where not all is shown.
    const zoomed = this.to - this.from < player.end - 1e-6;
    const map = axis + 22;
    return { width, left, right: width - 10, top, curve, lane, laneTop, lanes, axis, map, zoomed, height: map + (zoomed ? 18 : 0) };
  },

  x(time, { left, right }) {
    return left + ((time - this.from) / (this.to - this.from)) * (right - left);
  },

  timeAt(x, { left, right }) {
    return this.from + ((x - left) / (right - left)) * (this.to - this.from);
  },

  press(event) {
    if (event.button !== 0 || !view.clip) return;
    const at = this.layout();
    const [x, y] = this.spot(event);
    $("line").setPointerCapture(event.pointerId);
    const lane = Math.floor((y - at.laneTop) / at.lane);
    if (at.zoomed && y >= at.map - 3) this.held = "map";
    else {
      this.held = "time";
      const other = y >= at.laneTop && lane < at.lanes ? view.clip.file.clips[lane] : null;
      if (other && other !== view.clip) open(other, { time: this.timeAt(x, at) });
    }
    this.drag(event);
  },

  drag(event) {
    if (!this.held) return;
    const at = this.layout();
    const [x] = this.spot(event);
    if (this.held === "map") {
      const span = this.to - this.from;
      const middle = clamp((x - at.left) / (at.right - at.left), 0, 1) * player.end;
      course.following = false;
      if (span < player.end - 1e-6) this.look(middle - span / 2, span);
      else player.seek(middle);
    } else {
      player.seek(clamp(this.timeAt(x, at), this.from, this.to));
    }
  },

  wheel(event) {
    if (!view.clip || !(event.ctrlKey || event.metaKey || event.shiftKey || event.deltaX !== 0)) return;
    event.preventDefault();
    const at = this.layout();
    const span = this.to - this.from;
    if (event.ctrlKey || event.metaKey) {
      this.zoom(Math.exp(event.deltaY / 300), this.timeAt(this.spot(event)[0], at));
    } else {
      this.look(this.from + ((event.deltaX || event.deltaY) / (at.right - at.left)) * span, span);
    }
  },

  spot(event) {
    const box = $("line").getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  },

  /** The playhead stays in sight. */
  follow(time) {
    if (!view.clip) return;
    const span = this.to - this.from;
    if (this.held !== "map" && (time < this.from - 1e-6 || time > this.to + 1e-6)) {
      this.look(player.playing ? time : time - span / 2, span);
    } else {
      this.draw();
    }
  },

  redraw() {
    this.ground = null;
    this.draw();
  },

  draw() {
    const { clip } = view;
    if (!clip || $("clip").hidden) return;
    const at = this.layout();
    if (at.width < 50) return;
    const line = $("line");
    line.style.height = `${at.height}px`;
    const canvas = $("plot");
    if (!this.ground) {
      this.ground = document.createElement("canvas");
      this.paint(fit(this.ground, at.width, at.height), at, clip);
    }
    const context = fit(canvas, at.width, at.height);
    context.drawImage(this.ground, 0, 0, at.width, at.height);
    const x = Math.round(this.x(player.time, at)) + 0.5;
    if (x >= at.left - 1 && x <= at.right + 1) {
      context.strokeStyle = style("--playhead");
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(x, at.top - 6);
      context.lineTo(x, at.axis + 2);
      context.stroke();
      context.fillStyle = style("--playhead");
      context.beginPath();
      context.moveTo(x - 5, at.top - 12);
      context.lineTo(x + 5, at.top - 12);
      context.lineTo(x, at.top - 4);
      context.fill();
    }
    if (this.to - this.from < player.end - 1e-6) {
      const mapX = at.left + (player.time / player.end) * (at.right - at.left);
      context.fillStyle = style("--playhead");
      context.fillRect(mapX - 0.75, at.map, 1.5, 12);
    }
    line.setAttribute("aria-valuemax", player.end.toFixed(2));
    line.setAttribute("aria-valuenow", player.time.toFixed(3));
    line.setAttribute("aria-valuetext", `${clock(player.time, 1)}, ${saidAt(clip, player.time)}`);
  },

  paint(context, at, clip) {
    const [ink, faint, rule] = [style("--ink"), style("--faint"), style("--rule")];
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const span = $("span");
    span.textContent = this.to - this.from < player.end - 1e-6
      ? `${clock(this.from, 1)} – ${clock(this.to, 1)}`
      : "";
    // What the curves are measured by.
    const unit = at.left < 60 ? "" : " %";
    for (const [share, word] of [[0, "0"], [0.5, `50${unit}`], [1, `100${unit}`]]) {
      const y = Math.round(at.top + (1 - share) * at.curve) + 0.5;
      context.strokeStyle = rule;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(at.left, y);
      context.lineTo(at.right, y);
      context.stroke();
      context.fillStyle = faint;
      context.textAlign = "right";
      context.fillText(word, at.left - 6, y);
    }
    this.ticks(context, at, faint, rule);
    const read = store.columns(clip);
    if (!read) {
      context.fillStyle = faint;
      context.textAlign = "left";
      context.fillText("Reading …", at.left + 8, at.top + 12);
      return;
    }
    context.save();
    context.beginPath();
    context.rect(at.left, 0, at.right - at.left, at.height);
    context.clip();
    if (this.curves === "units") this.paintUnits(context, at, read, clip);
    else this.paintClasses(context, at, read, clip);
    context.restore();
    clip.file.clips.forEach((other, k) => this.paintLane(context, at, other, k, ink, faint));
    this.paintMap(context, at, clip);
  },

  ticks(context, at, faint, rule) {
    const span = this.to - this.from;
    const room = (at.right - at.left) / 90;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    const step = steps.find((s) => span / s <= room) ?? 7200;
    context.textAlign = "center";
    for (let n = Math.ceil(this.from / step - 1e-9); n * step <= this.to + 1e-9; n += 1) {
      const x = Math.round(this.x(n * step, at)) + 0.5;
      context.strokeStyle = rule;
      context.beginPath();
      context.moveTo(x, at.top);
      context.lineTo(x, at.axis);
      context.stroke();
      context.fillStyle = faint;
      const word = step < 1 ? clock(n * step, 1) : clock(n * step);
      context.fillText(word, clamp(x, at.left + 12, at.right - 14), at.axis + 8);
    }
  },

  paintClasses(context, at, read, clip) {
    // Where no answer is given, the ground is hatched.
    for (const run of read.runs) {
      if (run.to < this.from || run.from > this.to || run.said !== 255) continue;
      const [x1, x2] = [this.x(run.from, at), this.x(run.to, at)];
      hatch(context, x1, at.top, x2 - x1, at.curve);
    }
    const times = read.middles;
    // The first and the last window are true to their ends.
    const [from, to] = [read.bounds[0], read.bounds[2 * read.length - 1]];
    clip.file.classes.forEach((place, c) => {
      const value = (i) => probability(read, i, c);
      this.paintCurve(context, at, { times, from, to, count: read.length, value }, store.colours[place], place);
    });
    // Where something warns, there is a mark on the line above.
    context.fillStyle = style("--warning");
    let before = -9;
    const first = Math.max(last(times, this.from) - 1, 0);
    for (let i = first; i < read.length && times[i] <= this.to + 1; i += 1) {
      if (!isWarned(read, i)) continue;
      const x = this.x(times[i], at);
      if (x - before < 7) continue;
      before = x;
      context.beginPath();
      context.moveTo(x - 3.5, 6);
      context.lineTo(x + 3.5, 6);
      context.lineTo(x, 0);
      context.fill();
    }
  },

  paintUnits(context, at, read, clip) {
    const all = unitColours(clip.file.units);
    clip.file.units.forEach((_, u) => {
      const value = (i) => {
        const v = read.strengths[i * read.units + u];
        return v === 255 ? NaN : v / 254;
      };
      this.paintCurve(context, at, { times: read.times, from: read.times[0], to: read.times[read.frames - 1], count: read.frames, value }, all[u], u);
    });
  },

  /** One curve: a line through its points, or, where several fall on a pixel, the band that
   * they span and their mean. */
  paintCurve(context, at, { times, from, to, count, value }, colour, place) {
    const shade = tint(colour);
    const lit = this.lit === place;
    const y = (v) => at.top + (1 - clamp(v, 0, 1)) * at.curve;
    context.strokeStyle = shade;
    context.lineJoin = "round";
    context.globalAlpha = this.lit < 0 || lit ? 1 : 0.22;
    context.lineWidth = lit ? 2.75 : 1.75;
    context.setLineDash(colour.dash);
    const first = Math.max(last(times, this.from), 0);
    const end = Math.min(last(times, this.to) + 2, count);
    const dense = (end - first) / (at.right - at.left) > 1.5;
    const line = new Path2D();
    let drawing = false;
    const point = (x, v) => {
      if (Number.isNaN(v)) drawing = false;
      else if (drawing) line.lineTo(x, y(v));
      else {
        line.moveTo(x, y(v));
        drawing = true;
      }
    };
    if (!dense) {
      for (let i = first; i < end; i += 1) {
        if (i > first && times[i] - times[i - 1] > 4 * (times[1] - times[0]) + 1) drawing = false;
        if (i === 0) point(this.x(from, at), value(i));
        point(this.x(times[i], at), value(i));
        if (i === count - 1) point(this.x(to, at), value(i));
      }
    } else {
      context.fillStyle = shade;
      const alpha = context.globalAlpha;
      let i = first;
      while (i < end) {
        const x = Math.floor(this.x(times[i], at));
        let [low, high, sum, n] = [Infinity, -Infinity, 0, 0];
        for (; i < end && Math.floor(this.x(times[i], at)) === x; i += 1) {
          const v = value(i);
          if (Number.isNaN(v)) continue;
          [low, high, sum, n] = [Math.min(low, v), Math.max(high, v), sum + v, n + 1];
        }
        if (n > 0) {
          context.globalAlpha = alpha * 0.16;
          context.fillRect(x, y(high), 1, Math.max(y(low) - y(high), 1));
          context.globalAlpha = alpha;
        }
        point(x + 0.5, n ? sum / n : NaN);
      }
      context.lineWidth = lit ? 2 : 1.2;
    }
    context.stroke(line);
    context.setLineDash([]);
    context.globalAlpha = 1;
  },

  paintLane(context, at, clip, k, ink, faint) {
    const y = at.laneTop + k * at.lane;
    const read = store.columns(clip);
    const chosen = clip === view.clip;
    context.textAlign = "right";
    context.fillStyle = chosen ? ink : faint;
    context.font = `${chosen ? "600 " : ""}11px system-ui, sans-serif`;
    const who = clip.several || clip.person ? `${at.left < 60 ? "" : "Person "}${clip.person ?? clip.k + 1}` : at.left < 60 ? "" : "Expression";
    context.fillText(who, at.left - 6, y + 10);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "left";
    if (!read) return;
    context.save();
    context.beginPath();
    context.rect(at.left, y, at.right - at.left, at.lane);
    context.clip();
    context.globalAlpha = chosen ? 1 : 0.8;
    let reached = -1;
    let pending = null;
    for (const run of read.runs) {
      if (run.to < this.from || run.from > this.to) continue;
      const [x1, x2] = [this.x(run.from, at), this.x(run.to, at)];
      // Of runs on one pixel the longest is drawn.
      if (x2 - x1 < 1) {
        const pixel = Math.floor(x1);
        if (pending && pending.pixel === pixel && pending.width >= x2 - x1) continue;
        pending = { pixel, width: x2 - x1 };
        this.paintRun(context, at, Math.max(pixel, reached), y, 1, clip, run);
        reached = pixel + 1;
        continue;
      }
      this.paintRun(context, at, x1, y, x2 - x1, clip, run);
      reached = x2;
    }
    this.paintEdits(context, at, clip, y);
    context.restore();
  },

  paintRun(context, at, x, y, width, clip, run) {
    const height = 19;
    if (run.said === 255) {
      hatch(context, x, y, width, height);
      if (width > 64) {
        context.fillStyle = style("--faint");
        context.fillText("no answer", Math.max(x, at.left) + 6, y + height / 2 + 0.5);
      }
      return;
    }
    const place = clip.file.classes[run.said];
    const shade = tint(store.colours[place]);
    context.fillStyle = shade;
    context.fillRect(x, y, Math.max(width - (width > 4 ? 1 : 0), 0.75), height);
    if (run.warned && width > 3) {
      context.fillStyle = style("--warning");
      context.fillRect(x, y, width - 1, 2.5);
    }
    const name = store.classes[place];
    const seen = Math.max(x, at.left);
    if (x + width - seen > context.measureText(name).width + 12) {
      context.fillStyle = inkOn(shade);
      context.fillText(name, seen + 6, y + height / 2 + 0.5);
    }
  },

  /** Corrections lie under the lane that they correct. */
  paintEdits(context, at, clip, y) {
    const edit = edits.of(clip);
    if (!edit) return;
    const parts = edit.ranges ?? [{ from: clip.start, to: Math.max(clip.end, player.end), class: edit.whole }];
    for (const part of parts) {
      const [x1, x2] = [this.x(part.from, at), this.x(part.to, at)];
      const place = store.classes.indexOf(part.class);
      context.fillStyle = place < 0 ? style("--faint") : tint(store.colours[place]);
      context.fillRect(x1, y + 20, x2 - x1, 4);
      context.fillStyle = style("--ink");
      context.fillRect(x1, y + 20, 1.5, 4);
      context.fillRect(x2 - 1.5, y + 20, 1.5, 4);
    }
  },

  /** All of the clip in a strip, with the stretch that is shown. */
  paintMap(context, at, clip) {
    if (this.to - this.from > player.end - 1e-6) return;
    const read = store.columns(clip);
    const width = at.right - at.left;
    context.fillStyle = style("--well");
    context.fillRect(at.left, at.map, width, 12);
    const scale = width / Math.max(player.end, 1e-6);
    context.globalAlpha = 0.75;
    for (const run of read.runs) {
      if (run.said === 255) continue;
      context.fillStyle = tint(store.colours[clip.file.classes[run.said]]);
      context.fillRect(at.left + run.from * scale, at.map + 3, Math.max((run.to - run.from) * scale, 0.5), 6);
    }
    context.globalAlpha = 1;
    const [x1, x2] = [at.left + this.from * scale, at.left + this.to * scale];
    context.strokeStyle = style("--accent");
    context.lineWidth = 1.5;
    context.strokeRect(x1, at.map + 0.75, Math.max(x2 - x1, 3), 10.5);
  },
};

let pattern = null;
let patternOf = "";

/** Fills with lines aslant: nothing is said here. */
function hatch(context, x, y, width, height) {
  const colour = style("--hatch");
  if (!pattern || patternOf !== colour) {
    const tile = document.createElement("canvas");
    [tile.width, tile.height] = [6, 6];
    const lines = tile.getContext("2d");
    lines.strokeStyle = colour;
    lines.lineWidth = 1.2;
    for (const shift of [-6, 0, 6]) {
      lines.moveTo(shift, 6);
      lines.lineTo(shift + 6, 0);
    }
    lines.stroke();
    pattern = context.createPattern(tile, "repeat");
    patternOf = colour;
  }
  context.fillStyle = pattern;
  context.fillRect(x, y, width, height);
}

/** Colours of action units, of which there may be more than colours. */
function unitColours(units) {
  const all = Object.values(OKABE_ITO);
  return units.map((_, u) => ({ pair: all[(u + 1) % all.length], dash: u < all.length - 1 ? [] : [5, 3] }));
}

function saidAt(clip, time) {
  const read = store.columns(clip);
  const i = read ? pointAt(read, time) : -1;
  if (i < 0 || read.curveSaid[i] === 255) return "no answer";
  const c = read.curveSaid[i];
  return `${store.classes[clip.file.classes[c]]} ${percent(probability(read, i, c))}`;
}
