// What is said while the page is open, from the server that it came from.

/** By which the server knows whom it tells. It came behind the `#` of the address, which is
 * sent nowhere; the browser keeps it for this tab and this server alone, for when the page is
 * loaded again. */
const token = (() => {
  const [, given] = /^#token=([\w.~-]+)$/.exec(location.hash) ?? [];
  try {
    if (given) sessionStorage.setItem("mtcae-token", given);
    return given ?? sessionStorage.getItem("mtcae-token");
  } catch {
    return given ?? null;
  }
})();
if (location.hash.startsWith("#token=")) history.replaceState(null, "", location.pathname);
// A new address in the same tab.
addEventListener("hashchange", () => location.hash.startsWith("#token=") && location.reload());

/** The server says something at least every 5 seconds; after so many it is not there. */
const SILENCE = 15;

const feed = {
  /** The last event, by which the server knows what comes next. */
  last: null,
  ended: false,
  /** Seconds until the next try. */
  pause: 1,

  say(text, warns = false) {
    const place = $("feed");
    if (place.textContent === text) return;
    place.textContent = text;
    place.hidden = false;
    place.classList.toggle("unsaved", warns);
    say(text);
  },

  async run() {
    if (!token) {
      this.say("no token: open the address that mtcae printed", true);
      return;
    }
    while (!this.ended) {
      try {
        if (await this.listen()) return;
      } catch {
        // Whatever it was, it is tried again.
      }
      if (this.ended) return;
      this.say("connection lost, connecting again …", true);
      await new Promise((done) => setTimeout(done, 1000 * this.pause));
      this.pause = Math.min(2 * this.pause, 10);
    }
  },

  /** Takes events until there are no more; whether it is of no use to ask again. */
  async listen() {
    const headers = { Authorization: `Bearer ${token}` };
    if (this.last) headers["Last-Event-ID"] = this.last;
    const gone = new AbortController();
    let watch = setTimeout(() => gone.abort(), 1000 * SILENCE);
    try {
      const answer = await fetch("/page/events", { headers, cache: "no-store", signal: gone.signal });
      if (answer.status === 401) {
        this.say("the token is not right any more: open the address that mtcae printed last", true);
        return true;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      this.pause = 1;
      this.say("live");
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ;) {
        const { done, value } = await reader.read();
        if (done) return false;
        clearTimeout(watch);
        watch = setTimeout(() => gone.abort(), 1000 * SILENCE);
        const events = (text + value).split("\n\n");
        text = events.pop();
        for (const event of events) this.take(event);
        if (this.ended) {
          gone.abort();
          return true;
        }
      }
    } finally {
      clearTimeout(watch);
    }
  },

  take(event) {
    const fields = new Map();
    for (const line of event.split("\n")) {
      const at = line.indexOf(": ");
      if (at > 0) fields.set(line.slice(0, at), line.slice(at + 2));
    }
    const data = fields.get("data");
    if (data === undefined) return;
    const id = fields.get("id");
    if (id) {
      const run = (name) => name.slice(0, name.lastIndexOf("-"));
      // Another stream begins anew.
      if (this.last && run(this.last) !== run(id)) location.reload();
      this.last = id;
      course.take(JSON.parse(data));
    } else if (fields.get("event") === "left-out") {
      this.missing = (this.missing ?? 0) + JSON.parse(data).count;
      this.say(`live, without ${this.missing} windows from before`);
    } else if (fields.get("event") === "end") {
      const { windows, dropped } = JSON.parse(data);
      this.ended = true;
      course.finish();
      this.say(`the stream ended: ${windows} windows${dropped ? `, ${dropped} frames left out` : ""}`);
    }
  },
};

addEventListener("DOMContentLoaded", () => feed.run());
