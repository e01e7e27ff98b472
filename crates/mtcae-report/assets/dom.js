// What all parts share: elements, numbers in words, colours.

const $ = (id) => document.getElementById(id);

/** An element with properties, and children that are elements or text: never HTML. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const percent = (p) => `${Math.round(100 * p)} %`;

/** Seconds as m:ss or h:mm:ss, with digits of a second where asked. */
function clock(seconds, digits = 0) {
  const unit = 10 ** digits;
  const all = Math.round(Math.max(seconds, 0) * unit);
  const whole = Math.floor(all / unit);
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const rest = digits ? `.${String(all % unit).padStart(digits, "0")}` : "";
  return h ? `${h}:${two(m)}:${two(s)}${rest}` : `${m}:${two(s)}${rest}`;
}

/** Says something to those who do not see it. */
function say(text) {
  $("said").textContent = text;
}

/** The place of the last number at or below a value in an ascending column; -1 for none. */
function last(column, value, stride = 1) {
  let [low, high] = [0, column.length / stride];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle * stride] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// Okabe and Ito's colours, which those who are colour-blind tell apart: in dark and light.
// Names that are usual have theirs; others take what is left in order.
const OKABE_ITO = {
  ink: ["#5b6470", "#c3cad4"],
  orange: ["#e69f00", "#e69f00"],
  sky: ["#56b4e9", "#56b4e9"],
  green: ["#009e73", "#1fbf93"],
  yellow: ["#c9b400", "#f0e442"],
  blue: ["#0072b2", "#4a9fdc"],
  vermillion: ["#d55e00", "#ee7d31"],
  purple: ["#cc79a7", "#d991b8"],
};
const USUAL = {
  neutral: "ink", calm: "sky", happy: "orange", happiness: "orange", joy: "orange",
  sad: "blue", sadness: "blue", angry: "vermillion", anger: "vermillion",
  fear: "purple", fearful: "purple", disgust: "green", disgusted: "green",
  surprise: "yellow", surprised: "yellow",
};

/** Colours of names: pairs for light and dark, and whether the line is dashed. */
function colours(names) {
  const all = Object.keys(OKABE_ITO);
  const taken = new Set(names.map((name) => USUAL[name.toLowerCase()]).filter(Boolean));
  const free = all.filter((colour) => !taken.has(colour));
  const used = new Set();
  let next = 0;
  return names.map((name) => {
    const usual = USUAL[name.toLowerCase()];
    if (usual && !used.has(usual)) {
      used.add(usual);
      return { pair: OKABE_ITO[usual], dash: [] };
    }
    const from = next < free.length ? free : all;
    const pair = OKABE_ITO[from[next % from.length]];
    const dash = next < free.length ? [] : [6, 3];
    next += 1;
    return { pair, dash };
  });
}

const media = matchMedia("(prefers-color-scheme: dark)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : media.matches;
}

const tint = (colour) => colour.pair[isDark() ? 1 : 0];

/** Black or white, whichever is read better on a colour. */
function inkOn(hex) {
  const part = (at) => {
    const v = parseInt(hex.slice(at, at + 2), 16) / 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  };
  const light = 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
  return light > 0.18 ? "#111418" : "#ffffff";
}

const styles = new Map();

/** One of the style's numbers or colours; `styles` is emptied when they change. */
function style(name) {
  if (!styles.has(name)) {
    styles.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  }
  return styles.get(name);
}

/** What a browser keeps for this page, where it keeps anything. */
const kept = {
  get(name) {
    try {
      return JSON.parse(localStorage.getItem(name));
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
};

/** A canvas made as large as it is shown, in the screen's pixels; its context. */
function fit(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
