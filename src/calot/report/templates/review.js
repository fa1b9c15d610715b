"use strict";
// A player over one or several files in the operation's time, its seek bar, and the reader's marks.
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const video = $("video"), seek = $("seek"), needle = $("needle"), KEY = `calot-review ${data.key}`;
const VERDICTS = ["achieved", "not achieved", "not assessable"];
const clock = seconds => {
  const whole = Math.max(0, Math.round(seconds));
  return `${String(Math.floor(whole / 60)).padStart(2, "0")}:${String(whole % 60).padStart(2, "0")}`;
};
const clamp = time => Math.min(Math.max(time, 0), data.seconds);

// The player: `now` is the time asked for until the file that holds it is loaded.
let file = -1, waiting = null, wanted = false;
const fileAt = time => Math.max(0, data.files.findLastIndex(f => f.begins <= time + 1e-6));
const now = () => waiting ?? (file < 0 ? 0 : clamp(data.files[file].begins + video.currentTime));
const show = () => {
  const time = now(), share = 100 * time / data.seconds;
  needle.style.left = `${share}%`;
  $("now").textContent = clock(time);
  seek.setAttribute("aria-valuenow", time.toFixed(1));
  seek.setAttribute("aria-valuetext", clock(time));
};
const problem = text => { $("problem").hidden = !text; $("problem-text").textContent = text; };
const load = number => {
  file = number;
  const own = data.files[number], many = data.files.length > 1 ? ` ${number + 1} of ${data.files.length}` : "";
  if (!own.source) {
    video.removeAttribute("src");
    problem(`This page does not say where recording${many} lies. Open it; it stays on this machine.`);
  } else { problem(""); video.src = own.source; }
};
const go = time => {
  time = clamp(time);
  const number = fileAt(time);
  if (number !== file) load(number);
  if (video.readyState >= 1) { waiting = null; video.currentTime = time - data.files[number].begins; }
  else waiting = time;
  show();
};
video.addEventListener("loadedmetadata", () => {
  problem("");
  video.playbackRate = Number($("speed").value);
  if (waiting !== null) { video.currentTime = waiting - data.files[file].begins; waiting = null; }
  if (wanted) start();
  show();
});
video.addEventListener("error", () => {
  if (!video.getAttribute("src")) return;
  problem("This browser cannot play the recording, or it is not where it was. Open it from its place, use another " +
    "browser, or convert a copy (for example: ffmpeg -i recording -c:v libx264 -pix_fmt yuv420p copy.mp4).");
});
$("pick").addEventListener("change", event => {
  const chosen = event.target.files[0];
  if (!chosen) return;
  const time = now();
  data.files[file].source = URL.createObjectURL(chosen);
  waiting = time;
  load(file);
});
const start = () => { wanted = true; video.play().catch(() => {}); };
const pause = () => { wanted = false; video.pause(); };
const toggle = () => (video.paused ? start() : pause());
for (const [name, text] of [["play", "Pause"], ["pause", "Play"]])
  video.addEventListener(name, () => { $("play").textContent = text; $("play").setAttribute("aria-label", text); });
video.addEventListener("ended", () => { if (file + 1 < data.files.length) go(data.files[file + 1].begins); else wanted = false; });
for (const name of ["timeupdate", "seeked"]) video.addEventListener(name, show);
video.addEventListener("click", toggle);
$("play").addEventListener("click", toggle);
$("speed").addEventListener("change", () => { video.playbackRate = Number($("speed").value); });

// Jumps.
const change = way => {
  const time = now(), times = data.transitions.map(t => t.time);
  const next = way > 0 ? times.find(t => t > time + 0.25) : times.findLast(t => t < time - 0.25);
  if (next !== undefined) go(next);
};
$("before").addEventListener("click", () => change(-1));
$("after").addEventListener("click", () => change(1));
document.addEventListener("click", event => {
  const button = event.target.closest(".jump");
  if (button) go(Number(button.dataset.time));
});
const pointed = event => {
  const box = seek.getBoundingClientRect();
  go(data.seconds * (event.clientX - box.left) / box.width);
};
seek.addEventListener("pointerdown", event => { seek.setPointerCapture(event.pointerId); pointed(event); });
seek.addEventListener("pointermove", event => { if (seek.hasPointerCapture(event.pointerId)) pointed(event); });

// Marks: those of raters are shown, those of the reader can be changed.
let marks = [], kept = true;
try { marks = JSON.parse(localStorage.getItem(KEY) ?? "[]"); } catch { kept = false; }
if (!Array.isArray(marks)) marks = [];
const keep = () => {
  try { localStorage.setItem(KEY, JSON.stringify(marks)); } catch { kept = false; }
  if (!kept) $("kept").textContent = "This browser keeps nothing for this page: export your marks before you close it.";
};
const put = (tag, fields, ...inside) => { const made = Object.assign(document.createElement(tag), fields); made.append(...inside); return made; };
const field = (text, control, css = "") => put("label", { className: css }, text, control);
const choice = (options, value) => {
  const made = put("select", {}, ...options.map(([id, text]) => put("option", { value: id }, text)));
  made.value = value;
  return made;
};
const timed = (mark, name) => {
  const made = put("input", { type: "number", min: 0, max: data.seconds, step: "any", value: mark[name] });
  made.addEventListener("change", () => {
    const value = made.valueAsNumber, [from, to] = name === "start" ? [value, mark.end] : [mark.start, value];
    const right = Number.isFinite(value) && from >= 0 && from <= to && to <= data.seconds;
    made.classList.toggle("wrong", !right);
    made.setCustomValidity(right ? "" : `Seconds from 0 to ${data.seconds}, the start before the end.`);
    made.reportValidity();
    if (right) { mark[name] = value; keep(); bars(); }
  });
  return made;
};
const bars = () => $("marked").replaceChildren(...[...data.raters.map(m => [m, "mine rater"]), ...marks.map(m => [m, "mine"])].map(([m, css]) => {
  const made = put("span", { className: css, title: `${m.criterion}: ${m.verdict}${m.rater ? ` (${m.rater})` : ""}` });
  made.style.left = `${100 * m.start / data.seconds}%`;
  made.style.width = `${100 * (m.end - m.start) / data.seconds}%`;
  return made;
}));
const row = mark => {
  const criterion = choice(data.criteria.map(c => [c.id, c.label]), mark.criterion), verdict = choice(VERDICTS.map(v => [v, v]), mark.verdict);
  const note = put("input", { type: "text", maxLength: 500, value: mark.note });
  for (const [name, control] of [["criterion", criterion], ["verdict", verdict], ["note", note]])
    control.addEventListener("change", () => { mark[name] = control.value; keep(); bars(); });
  const begin = timed(mark, "start"), end = timed(mark, "end");
  const here = put("button", { type: "button", className: "ends" }, "Ends here");
  here.addEventListener("click", () => { end.value = Math.max(mark.start, Number(now().toFixed(1))); end.dispatchEvent(new Event("change")); });
  const jump = put("button", { type: "button", className: "jump" }, clock(mark.start));
  jump.addEventListener("click", () => go(mark.start));
  const drop = put("button", { type: "button", className: "drop" }, "Delete");
  drop.addEventListener("click", () => { marks = marks.filter(m => m !== mark); keep(); list(); });
  return put("div", { className: "mark" }, field("Criterion", criterion, "whole"), field("Verdict", verdict, "whole"), field("From, s", begin), field("To, s", end),
    field("Note", note, "whole"), put("div", { className: "acts" }, jump, here, drop));
};
const list = () => {
  const order = (a, b) => a.start - b.start;
  const given = data.raters.map(m => put("div", { className: "mark given" }, put("p", { className: "whole" },
    `${m.rater || "rater"}: ${data.criteria.find(c => c.id === m.criterion).label} ${m.verdict}, ${clock(m.start)} to ${clock(m.end)}${m.note ? `: ${m.note}` : ""}`)));
  $("rows").replaceChildren(...marks.toSorted(order).map(row), ...given);
  $("none").hidden = marks.length + data.raters.length > 0;
  bars();
};
const add = criterion => {
  const time = Number(now().toFixed(1));
  marks.push({ criterion, verdict: "achieved", start: time, end: Number(Math.min(time + 5, data.seconds).toFixed(1)), note: "" });
  keep();
  list();
};
for (const button of document.querySelectorAll(".add")) button.addEventListener("click", () => add(button.dataset.criterion));
// A cell that a spreadsheet would run is written as text.
const cell = value => {
  const text = String(value), safe = /^[=+\-@\t\r]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
const exported = () => {
  const rows = marks.toSorted((a, b) => a.start - b.start).map(m => [data.name, m.criterion, m.verdict, m.start, m.end, m.note, "reader"]);
  return [["operation", "criterion", "verdict", "start", "end", "note", "rater"], ...rows].map(r => r.map(cell).join(",")).join("\r\n") + "\r\n";
};
const save = () => {
  const address = URL.createObjectURL(new Blob([exported()], { type: "text/csv" }));
  put("a", { href: address, download: `${data.name}-marks.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
};
$("export").addEventListener("click", save);

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const step = event.shiftKey ? 1 : 5, onButton = event.target.closest("button, summary");
  const act = {
    " ": onButton ? null : toggle, ArrowLeft: () => go(now() - step), ArrowRight: () => go(now() + step), Home: () => go(0), End: () => go(data.seconds),
    n: () => change(1), p: () => change(-1), e: save, h: () => { if (data.held !== null) go(data.held); },
    1: () => add(data.criteria[0].id), 2: () => add(data.criteria[1].id), 3: () => add(data.criteria[2].id),
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) { event.preventDefault(); act(); }
});
list();
go(0);
