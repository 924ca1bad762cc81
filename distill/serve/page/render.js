// Answers of the service as parts of the page. Texts are set as text, never as HTML.
import { number, percent, say, time } from "./i18n.js";

const MOST_BARS = 12;
const SEEN = 0.005; // a weight below half a point is rounded away

/** A new element: its properties, then what is in it. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show a fault and its hint in a box; without a fault, hide the box. */
export function blame(box, error = null) {
  box.hidden = !error;
  box.replaceChildren(...(error ? [make("strong", {}, error.message), make("span", {}, error.hint ?? "")] : []));
}

/** What student and teacher say, side by side, and why; `absence` stands where the teacher did not answer. */
export function detail(answer, absence) {
  const names = ranked(answer);
  return make(
    "article",
    { className: "detail" },
    make(
      "div",
      { className: "models" },
      model(say("student"), answer.student, names),
      answer.teacher ? model(say("teacher"), answer.teacher, names) : nobody(absence),
    ),
    why(answer),
  );
}

/** In a sentence or two: who says what, and how much longer the teacher took. */
export function verdict({ label, student, teacher }) {
  const own = say("verdict", { label, share: percent(student.probabilities[label]) });
  if (!teacher) return own;
  const theirs = best(teacher.probabilities);
  const times = number(teacher.ms / student.ms);
  const share = percent(teacher.probabilities[theirs]);
  return say(theirs === label ? "agrees" : "differs", { own, label: theirs, share, times });
}

/** The label with the greatest probability. */
const best = (probabilities) => Object.entries(probabilities).reduce((one, two) => (two[1] > one[1] ? two : one))[0];

/** The labels as both columns show them: by the student's probability, those that neither finds likely left out. */
function ranked({ student, teacher }) {
  const likely = (name) => Math.max(student.probabilities[name], teacher?.probabilities[name] ?? 0);
  const names = Object.keys(student.probabilities);
  const shown = names.toSorted((one, two) => likely(two) - likely(one)).slice(0, MOST_BARS);
  return shown.sort((one, two) => student.probabilities[two] - student.probabilities[one]);
}

function model(title, { probabilities, ms }, names) {
  const rest = Object.keys(probabilities).filter((name) => !names.includes(name));
  const left = rest.reduce((sum, name) => sum + probabilities[name], 0);
  const bars = names.map((name) => bar(name, probabilities[name], name === best(probabilities)));
  if (rest.length) bars.push(bar(say("rest", { count: rest.length }), left, false));
  const heading = make("h3", {}, title, make("span", { className: "time" }, time(ms)));
  return make("section", { className: "model" }, heading, make("ul", { className: "bars" }, ...bars));
}

function nobody(absence) {
  const reason = make("p", { className: "soft" }, absence);
  return make("section", { className: "model" }, make("h3", {}, say("teacher")), reason);
}

function bar(name, share, first) {
  return make(
    "li",
    { className: first ? "first" : "" },
    make("span", { className: "name", title: name }, name),
    track(share),
    make("span", { className: "share" }, percent(share)),
  );
}

function track(share) {
  const filled = make("span", { className: "filled" });
  filled.style.width = `${100 * share}%`;
  return make("span", { className: "track" }, filled);
}

function why({ label, words }) {
  const said = words.some(({ weight }) => Math.abs(weight) >= SEEN);
  const scale = make(
    "span",
    { className: "legend" },
    make("span", { className: "word for" }, `+ ${say("for")}`),
    make("span", { className: "word against" }, `− ${say("against")}`),
  );
  return make(
    "section",
    { className: "why" },
    make("h3", {}, say("words"), scale),
    make("p", { className: "words", lang: "zh" }, ...words.map((word) => shaded(word, label))),
    make("p", { className: "soft" }, say(said ? "meaning" : "none", { label })),
  );
}

/** A word, the stronger shaded the more it weighs; what weighs nothing is plain text. */
function shaded({ word, weight }, label) {
  const size = Math.abs(weight);
  if (size < SEEN) return word;
  const side = weight > 0 ? "for" : "against";
  const points = number(100 * size);
  const sign = make("small", {}, `${weight > 0 ? "+" : "−"}${Math.round(100 * size)}`);
  const made = make("span", { className: `word ${side}`, title: say(`${side}_word`, { label, points }) }, word, sign);
  made.style.setProperty("--strength", Math.sqrt(size).toFixed(3));
  return made;
}

/** Many texts with their labels; `open(text)` gives the detail that a click on one shows below it. */
export function table(texts, predictions, open) {
  const heads = ["#", say("headline"), say("label"), say("share")].map((name) => make("th", { scope: "col" }, name));
  const body = make("tbody");
  predictions.forEach((prediction, place) => body.append(row(place + 1, texts[place], prediction, open)));
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
}

function row(place, text, { label, probability }, open) {
  const button = make("button", { type: "button", className: "open", lang: "zh", ariaExpanded: "false" }, text);
  const made = make("tr");
  button.addEventListener("click", () => toggle(button, made, () => open(text)));
  made.append(
    make("td", { className: "place" }, String(place)),
    make("td", {}, button),
    make("td", {}, label),
    make("td", { className: "likely" }, track(probability), percent(probability)),
  );
  return made;
}

async function toggle(button, made, open) {
  if (button.ariaExpanded === "true") {
    made.nextSibling.remove();
    button.ariaExpanded = "false";
    return;
  }
  button.ariaExpanded = "true";
  const below = make("td", { colSpan: 4 }, say("working"));
  made.after(make("tr", { className: "below" }, below));
  below.replaceChildren(await open());
}
