// Results as `infer --people all --window 2 --stride 1` would write them of a long video:
// made up, since computing them takes hours. Written in pieces: they are larger than a string.

import { createWriteStream } from "node:fs";
import { once } from "node:events";

const CLASSES = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"];
const UNITS = ["AU1", "AU2", "AU4", "AU5", "AU6", "AU7", "AU9", "AU12", "AU15", "AU25"];
const FRAMES = 16;

const wave = (t, k) => 0.5 + 0.5 * Math.sin(t / (7 + 3 * k) + 1.7 * k);
const three = (v) => Math.round(v * 1000) / 1000;

function window(person, start) {
  const strong = CLASSES.map((_, k) => Math.exp(4 * wave(start + 90 * person, k)));
  const sum = strong.reduce((a, b) => a + b, 0);
  const probabilities = CLASSES.map((name, k) => ({ class: name, probability: strong[k] / sum }));
  const best = probabilities.reduce((a, b) => (b.probability > a.probability ? b : a));
  const away = start % 97 < 3;
  const frames = [];
  for (let i = 0; i < FRAMES; i += 1) {
    // As many frames as of a whole clip, spread over the window, at 25 a second.
    const index = Math.round((start + (2 * i) / FRAMES) * 25);
    const time = index / 25;
    const x = 200 + 500 * person + 40 * Math.sin(time / 3);
    const y = 300 + 20 * Math.cos(time / 4);
    const at = (dx, dy) => [three(x + dx), three(y + dy)];
    const face_box = { x1: three(x), y1: three(y), x2: three(x + 180), y2: three(y + 220) };
    const landmarks = { left_eye: at(55, 85), right_eye: at(125, 86), nose: at(90, 130), mouth_left: at(60, 170), mouth_right: at(120, 171) };
    frames.push({ index, time, face_box, landmarks, action_units: UNITS.map((_, u) => three(wave(time, u))), detected: { face_box, landmarks, score: 0.99 } });
  }
  return {
    file: "hour.mp4", person: person + 1, start, end: start + 2,
    expression: away ? "" : best.class, confidence: best.probability,
    refusal: away ? { kind: "turned-away", turn: 0.9, farthest: 0.5 } : null,
    probabilities, action_units: UNITS, frames,
    source: { width: 1920, height: 1080, coded_width: 1920, coded_height: 1080, sample_aspect: [1, 1], orientation: { mirrored: false, rotation: 0 }, crop: null },
    trained_on: "nothing: made up", seen: { frames: 16, of: 16, at: "source", min_face: 54 },
    warnings: start % 211 === 0 ? [{ kind: "face-in-few", frames: 3, of: 16 }] : [],
  };
}

/** Writes the results of `seconds` with `people` to a file; how many frames they have. */
export async function hour(path, seconds, people) {
  const out = createWriteStream(path);
  const put = async (text) => {
    if (!out.write(text)) await once(out, "drain");
  };
  await put('{"format":"mtcae-results","version":1,"purpose":"","provenance":null,"timelines":[');
  for (let person = 0; person < people; person += 1) {
    await put(`${person ? "," : ""}{"length":2,"stride":1,"windows":[`);
    const points = [];
    for (let start = 0; start < seconds; start += 1) {
      const one = window(person, start);
      points.push({ time: start + 1, expression: one.expression, probabilities: one.probabilities });
      await put(`${start ? "," : ""}${JSON.stringify(one)}`);
    }
    await put(`],"points":${JSON.stringify(points)}}`);
  }
  out.end("]}\n");
  await once(out, "finish");
  return seconds * people * FRAMES;
}
