// Build page elements from the service's JSON. Texts are set as text, never as HTML.
import { formatNumber, formatPercent, formatTime, translate } from "./i18n.js";

const MAX_BARS = 12;
const MIN_WEIGHT = 0.005; // a smaller weight would be rounded to 0 percentage points

/** A new element with the given properties and children. */
export function createElement(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show an error and its hint in `box`; without an error, hide the box. */
export function showError(box, error = null) {
  box.hidden = !error;
  const parts = error ? [createElement("strong", {}, error.message), createElement("span", {}, error.hint ?? "")] : [];
  box.replaceChildren(...parts);
}

/**
 * The response of /explain: student and teacher side by side, and the influence of each word; of several tasks, one
 * below the other. `whyNoTeacher` is shown in the teacher's place if the response has none.
 */
export function explanation(response, whyNoTeacher) {
  if (response.tasks) return explanationOfTasks(response.tasks);
  const names = rankedLabels(response);
  return createElement(
    "article",
    { className: "detail" },
    createElement(
      "div",
      { className: "models" },
      modelCard(translate("student"), response.student, names),
      ...teacherCards(response.teacher, names, whyNoTeacher),
    ),
    wordInfluence(response),
  );
}

/** The teacher's card, or why there is none; nothing, if there is no reason. */
function teacherCards(teacher, names, whyNoTeacher) {
  if (teacher) return [modelCard(translate("teacher"), teacher, names)];
  return whyNoTeacher ? [noTeacherCard(whyNoTeacher)] : [];
}

/** A model of several tasks has no teacher of all of them. */
function explanationOfTasks(tasks) {
  const parts = Object.entries(tasks).map(([name, response]) => {
    const part = explanation(response, "");
    part.prepend(createElement("h2", {}, name));
    return part;
  });
  return createElement("div", { className: "tasks" }, ...parts);
}

/** The response of /explain in one or two sentences: the labels, and how much slower the teacher is. */
export function verdict({ label, student, teacher, tasks }) {
  if (tasks) return verdictOfTasks(tasks);
  if (student.labels) return verdictOfAnyLabels(student, teacher);
  const sentence = translate("verdict", { label, share: formatPercent(student.probabilities[label]) });
  if (!teacher) return sentence;
  const teacherLabel = mostLikely(teacher.probabilities);
  return translate(teacherLabel === label ? "agrees" : "differs", {
    student: sentence,
    label: teacherLabel,
    share: formatPercent(teacher.probabilities[teacherLabel]),
    times: formatNumber(teacher.ms / student.ms),
  });
}

/** The same of a model of several tasks. */
function verdictOfTasks(tasks) {
  const ofTasks = Object.entries(tasks).map(([task, { label, student }]) =>
    translate("of_task", { task, content: quotedNames(student.labels ?? [label]) }),
  );
  return translate("verdict_any", { labels: ofTasks.join(" / ") });
}

const quotedNames = (labels) => labels.map((label) => translate("quoted", { label })).join(" ") || translate("no_label");

/** The same of models that give a text any number of labels. */
function verdictOfAnyLabels(student, teacher) {
  const names = ({ labels }) => quotedNames(labels);
  const sentence = translate("verdict_any", { labels: names(student) });
  if (!teacher) return sentence;
  return translate(names(teacher) === names(student) ? "agrees" : "differs_any", {
    student: sentence,
    labels: names(teacher),
    times: formatNumber(teacher.ms / student.ms),
  });
}

const mostLikely = (probabilities) =>
  Object.entries(probabilities).reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];

/** The labels that both models show, sorted by the student's probability: those that either model finds likely. */
function rankedLabels({ student, teacher }) {
  const highest = (name) => Math.max(student.probabilities[name], teacher?.probabilities[name] ?? 0);
  const names = Object.keys(student.probabilities);
  const shown = names.toSorted((a, b) => highest(b) - highest(a)).slice(0, MAX_BARS);
  return shown.sort((a, b) => student.probabilities[b] - student.probabilities[a]);
}

function modelCard(title, { probabilities, ms, labels: given }, names) {
  const areIndependent = Boolean(given); // probabilities of any number of labels do not add up
  const labels = given ?? [mostLikely(probabilities)];
  const otherLabels = Object.keys(probabilities).filter((name) => !names.includes(name));
  const otherShare = otherLabels.reduce((sum, name) => sum + probabilities[name], 0);
  const bars = names.map((name) => probabilityBar(name, probabilities[name], labels.includes(name)));
  if (otherLabels.length && !areIndependent) {
    const summary = translate("other_labels", { count: otherLabels.length });
    bars.push(probabilityBar(summary, otherShare, false));
  }
  const heading = createElement("h3", {}, title, createElement("span", { className: "time" }, formatTime(ms)));
  return createElement("section", { className: "model" }, heading, createElement("ul", { className: "bars" }, ...bars));
}

function noTeacherCard(reason) {
  return createElement(
    "section",
    { className: "model" },
    createElement("h3", {}, translate("teacher")),
    createElement("p", { className: "soft" }, reason),
  );
}

function probabilityBar(name, share, isGiven) {
  return createElement(
    "li",
    { className: isGiven ? "first" : "" },
    createElement("span", { className: "name", title: name }, name),
    track(share),
    createElement("span", { className: "share" }, formatPercent(share)),
  );
}

function track(share) {
  const filled = createElement("span", { className: "filled" });
  filled.style.width = `${100 * share}%`;
  return createElement("span", { className: "track" }, filled);
}

function wordInfluence({ label, words }) {
  const isAnyDecisive = words.some(({ weight }) => Math.abs(weight) >= MIN_WEIGHT);
  const legend = createElement(
    "span",
    { className: "legend" },
    createElement("span", { className: "word for" }, `+ ${translate("for")}`),
    createElement("span", { className: "word against" }, `− ${translate("against")}`),
  );
  return createElement(
    "section",
    { className: "why" },
    createElement("h3", {}, translate("words"), legend),
    createElement("p", { className: "words", lang: "zh" }, ...words.map((word) => shadedWord(word, label))),
    createElement("p", { className: "soft" }, translate(isAnyDecisive ? "meaning" : "no_decisive_word", { label })),
  );
}

/** A word, shaded more strongly the larger its weight is; a word without weight is plain text. */
function shadedWord({ word, weight }, label) {
  const size = Math.abs(weight);
  if (size < MIN_WEIGHT) return word;
  const side = weight > 0 ? "for" : "against";
  const title = translate(`${side}_word`, { label, points: formatNumber(100 * size) });
  const points = createElement("small", {}, `${weight > 0 ? "+" : "−"}${Math.round(100 * size)}`);
  const element = createElement("span", { className: `word ${side}`, title }, word, points);
  element.style.setProperty("--strength", Math.sqrt(size).toFixed(3));
  return element;
}

/** Several texts with their labels. A click on a text shows below it the element that `explain(text)` resolves to. */
export function predictionTable(texts, predictions, explain) {
  const tasks = Object.keys(predictions[0].tasks ?? { [translate("label")]: null });
  const titles = ["#", translate("text"), ...tasks.flatMap((task) => [task, translate("probability")])];
  const heads = titles.map((title) => createElement("th", { scope: "col" }, title));
  const body = createElement("tbody");
  predictions.forEach((prediction, index) => body.append(tableRow(index + 1, texts[index], prediction, explain)));
  return createElement("table", {}, createElement("thead", {}, createElement("tr", {}, ...heads)), body);
}

function tableRow(number, text, prediction, explain) {
  const properties = { type: "button", className: "open", lang: "zh", ariaExpanded: "false" };
  const button = createElement("button", properties, text);
  const row = createElement("tr");
  button.addEventListener("click", () => toggleDetails(button, row, () => explain(text)));
  row.append(
    createElement("td", { className: "place" }, String(number)),
    createElement("td", {}, button),
    ...Object.values(prediction.tasks ?? { prediction }).flatMap(predictionCells),
  );
  return row;
}

function predictionCells({ label, labels = [label], probability }) {
  return [
    createElement("td", {}, labels.join(" · ") || "—"), // a text may have no label
    createElement("td", { className: "likely" }, track(probability), formatPercent(probability)),
  ];
}

async function toggleDetails(button, row, explain) {
  if (button.ariaExpanded === "true") {
    row.nextSibling.remove();
    button.ariaExpanded = "false";
    return;
  }
  button.ariaExpanded = "true";
  const cell = createElement("td", { colSpan: row.children.length }, translate("working"));
  row.after(createElement("tr", { className: "below" }, cell));
  cell.replaceChildren(await explain());
}
