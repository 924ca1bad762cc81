// The page: what is typed goes to the service, what it answers is shown.
import { blame, detail, make, table, verdict } from "./render.js";
import { takeFiles } from "./files.js";
import { wear } from "./theme.js";
import { other, say, speak, time, turn } from "./i18n.js";
import { ask } from "./api.js";

const EXAMPLES = [
  "主队补时绝杀，九年后重返决赛",
  "新款电动轿车开启预订",
  "县城中学开了编程课",
  "百年老戏楼修缮完工",
  "独立游戏一周卖出百万份",
];
const at = (id) => document.getElementById(id);
let about = { labels: [], model: "", teacher: false }; // the service's word on itself
let asked = null; // the AbortController of the latest question
let redraw = () => {}; // the results again, in the language of now

async function run() {
  const lines = at("texts").value.split("\n").map((line) => line.trim());
  const texts = lines.filter((line) => line);
  asked?.abort();
  const own = (asked = new AbortController());
  blame(at("fault"));
  at("status").textContent = say(texts.length ? "working" : "empty");
  if (!texts.length) return at("texts").focus();
  at("results").ariaBusy = "true";
  try {
    const show = await (texts.length === 1 ? one(texts[0], own.signal) : many(texts, own.signal));
    if (own === asked) (redraw = show)();
  } catch (error) {
    if (own === asked) fail(error);
  }
  if (own === asked) at("results").ariaBusy = "false";
}

async function one(text, signal) {
  const answer = await ask("explain", { text }, signal);
  return () => show(verdict(answer), detail(answer, absence()));
}

async function many(texts, signal) {
  const started = performance.now();
  const { predictions } = await ask("predict", { texts }, signal);
  const taken = performance.now() - started;
  return () => show(say("many", { count: texts.length, time: time(taken) }), table(texts, predictions, open));
}

/** The detail of a row, or why there is none. */
async function open(text) {
  try {
    const answer = await ask("explain", { text });
    const parts = detail(answer, absence());
    parts.prepend(make("p", {}, verdict(answer)));
    return parts;
  } catch (error) {
    const box = make("div", { className: "fault", role: "alert" });
    blame(box, error);
    return box;
  }
}

const absence = () => say(about.teacher ? "late" : "alone");

function show(said, content) {
  at("status").textContent = said;
  at("results").replaceChildren(content);
}

function fail(error) {
  redraw = () => {};
  show("", "");
  blame(at("fault"), error);
}

function introduce() {
  at("language").textContent = say("other");
  at("language").lang = other();
  const { labels, model } = about;
  at("labels").textContent = labels.length ? say("labels", { count: labels.length, names: labels.join(" · ") }) : "";
  at("model").textContent = model;
}

function offerExamples() {
  const offer = (words, texts) => {
    const button = make("button", { type: "button", className: "quiet", ...words });
    button.addEventListener("click", () => {
      at("texts").value = texts.join("\n");
      run();
    });
    return button;
  };
  const all = offer({ textContent: say("all") }, EXAMPLES);
  all.dataset.say = "all";
  const each = EXAMPLES.map((text) => offer({ textContent: text, lang: "zh" }, [text]));
  document.querySelector(".examples").append(...each, all);
}

function listen() {
  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  at("texts").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    run();
  });
  at("language").addEventListener("click", () => {
    turn();
    introduce();
    redraw();
  });
}

offerExamples();
speak();
introduce();
wear(at("theme"));
listen();
takeFiles();
try {
  about = await ask("ready");
  introduce();
} catch (error) {
  blame(at("fault"), error);
}
