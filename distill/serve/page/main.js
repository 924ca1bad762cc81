// The page's entry point: sends the entered texts to the service and shows its predictions.
import { requestJson } from "./api.js";
import { setUpFiles } from "./files.js";
import { formatTime, otherLanguage, switchLanguage, translate, translatePage } from "./i18n.js";
import { createElement, explanation, predictionTable, showError, verdict } from "./render.js";
import { setUpTheme } from "./theme.js";

const byId = (id) => document.getElementById(id);
let examples = []; // texts that are stored in the bundle
let service = { labels: [], model: "", teacher: false }; // the response of /ready
let current = null; // the AbortController of the latest request
let redraw = () => {}; // shows the current results again, after the language was switched

async function classify() {
  const lines = byId("texts").value.split("\n").map((line) => line.trim());
  const texts = lines.filter((line) => line);
  current?.abort();
  const controller = (current = new AbortController());
  showError(byId("fault"));
  byId("status").textContent = translate(texts.length ? "working" : "empty");
  if (!texts.length) return byId("texts").focus();
  byId("results").ariaBusy = "true";
  try {
    const show = await (texts.length === 1 ? explainOne : predictMany)(texts, controller.signal);
    if (controller === current) (redraw = show)();
    updateService().catch(() => {}); // it may have loaded another model meanwhile
  } catch (error) {
    if (controller === current) fail(error);
  }
  if (controller === current) byId("results").ariaBusy = "false";
}

/** Request the explanation of a single text; returns a function that shows it. */
async function explainOne([text], signal) {
  const response = await requestJson("explain", { text }, signal);
  return () => show(verdict(response), explanation(response, whyNoTeacher()));
}

/** Request the labels of several texts; returns a function that shows them as a table. */
async function predictMany(texts, signal) {
  const started = performance.now();
  const { predictions } = await requestJson("predict", { texts }, signal);
  const time = performance.now() - started;
  return () =>
    show(
      translate("many", { count: texts.length, time: formatTime(time) }),
      predictionTable(texts, predictions, explainRow),
    );
}

/** The explanation below a row of the table, or the error. */
async function explainRow(text) {
  try {
    const response = await requestJson("explain", { text });
    const content = explanation(response, whyNoTeacher());
    content.prepend(createElement("p", {}, verdict(response)));
    return content;
  } catch (error) {
    const box = createElement("div", { className: "fault", role: "alert" });
    showError(box, error);
    return box;
  }
}

const whyNoTeacher = () => translate(service.teacher ? "teacher_late" : "no_teacher");

function show(status, content) {
  byId("status").textContent = status;
  byId("results").replaceChildren(content);
}

function fail(error) {
  redraw = () => {};
  show("", "");
  showError(byId("fault"), error);
}

/** Show the language button, the labels and the model's name. */
function showService() {
  byId("language").textContent = translate("other_language");
  byId("language").lang = otherLanguage();
  const { labels, model, tasks = [] } = service;
  byId("labels").textContent = tasks.length ? tasksLine(tasks) : labels.length ? labelsLine(labels) : "";
  byId("model").textContent = model;
}

const labelsLine = (labels) => translate("labels", { count: labels.length, names: labels.join(" · ") });

function tasksLine(tasks) {
  const ofTasks = tasks.map(({ name, labels }) => translate("of_task", { task: name, content: labels.join(" · ") }));
  return translate("tasks", { count: tasks.length, names: ofTasks.join(" / ") });
}

/** Ask the service for its model and labels, and show them. */
async function updateService() {
  service = await requestJson("ready");
  showService();
}

/** Show a button for every example and, if there are several, one for all of them. */
function showExamples() {
  const exampleButton = (content, texts, properties = {}) => {
    const button = createElement("button", { type: "button", className: "quiet", title: content, ...properties }, content);
    button.addEventListener("click", () => {
      byId("texts").value = texts.join("\n");
      classify();
    });
    return button;
  };
  const single = examples.map((text) => exampleButton(text, [text], { lang: "zh" }));
  const all = examples.length > 1 ? [exampleButton(translate("all", { count: examples.length }), examples)] : [];
  byId("examples").replaceChildren(byId("try"), ...single, ...all);
  byId("examples").hidden = !examples.length;
}

function addListeners() {
  byId("classify_form").addEventListener("submit", (event) => {
    event.preventDefault();
    classify();
  });
  byId("texts").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    classify();
  });
  byId("language").addEventListener("click", () => {
    switchLanguage();
    showService();
    showExamples();
    redraw();
  });
}

translatePage();
showService();
setUpTheme(byId("theme"));
addListeners();
setUpFiles();
try {
  await updateService();
  ({ examples } = await requestJson("examples"));
  showExamples();
} catch (error) {
  showError(byId("fault"), error);
}
