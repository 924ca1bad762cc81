// What the page says, in Chinese and English, and which of the two it speaks.
import { recall, remember } from "./storage.js";

export const TEXTS = {
  zh: {
    title: "短文本分类",
    lead: "一个小模型师从 BERT，学会了给中文短文本分类。写下标题，看看学生和教师各怎么说。",
    labels: "共 {count} 类：{names}",
    other: "English",
    dark: "深色",
    texts: "标题，每行一条",
    run: "分类",
    how: "按 Ctrl + Enter 也可。一条看详情，多条成表。",
    examples: "试一试",
    all: "五条一起",
    empty: "请先写一条标题，或点一个例子。",
    working: "正在分类……",
    results: "结果",
    verdict: "学生判为「{label}」，把握 {share}。",
    agrees: "{own}教师看法相同，用时是学生的 {times} 倍。",
    differs: "{own}教师判为「{label}」，把握 {share}，用时是学生的 {times} 倍。",
    student: "学生",
    teacher: "教师",
    alone: "这里只有学生。教师须在训练目录里，并装有 PyTorch；用 --with_teacher yes 启动服务即可请它出来。",
    late: "教师这次没能及时回答。它第一次被问到时要先读入，请稍后再试。",
    rest: "其余 {count} 类",
    words: "哪些词起了作用",
    meaning: "逐个去掉每个词，看学生给「{label}」的概率变化多少个百分点。",
    none: "没有哪个词单独起决定作用：去掉任何一个，结果几乎不变。",
    for: "支持",
    against: "反对",
    for_word: "支持「{label}」：去掉它，概率降低 {points} 个百分点",
    against_word: "反对「{label}」：去掉它，概率升高 {points} 个百分点",
    many: "{count} 条标题，用时 {time}。点标题看详情。",
    headline: "标题",
    label: "标签",
    share: "概率",
    files: "整个文件",
    rules: "CSV、TSV、JSON Lines 或每行一条的纯文本。原有的各行依次添上标签和概率。",
    choose: "选择文件",
    drop: "或者把文件拖到这里",
    stop: "取消",
    sending: "正在上传 {name}……",
    labelling: "正在标注 {name}……",
    stopped: "已取消。",
    labelled: "{name}：标注了 {rows} 行，用时 {time}。",
    labelled_but: "{name}：标注了 {rows} 行，用时 {time}；另有 {bad} 行读不懂，已略去。",
    download: "下载 {name}",
    docs: "接口文档",
    silent: "服务没有回应",
    silent_hint: "请确认它还在运行，然后再试一次",
    strange: "服务的回应无法读懂（{status}）",
  },
  en: {
    title: "Short texts, sorted",
    lead: "A small model has learnt from BERT to sort short Chinese texts. See what student and teacher say.",
    labels: "{count} labels: {names}",
    other: "中文",
    dark: "Dark",
    texts: "Headlines, one a line",
    run: "Classify",
    how: "Or press Ctrl + Enter. One line shows the details, several make a table.",
    examples: "Try one",
    all: "all five",
    empty: "Type a headline first, or click an example.",
    working: "Classifying…",
    results: "Results",
    verdict: "The student says “{label}” and is {share} sure.",
    agrees: "{own} The teacher agrees, and takes {times} times as long.",
    differs: "{own} The teacher says “{label}”, {share} sure, and takes {times} times as long.",
    student: "Student",
    teacher: "Teacher",
    alone:
      "Only the student is here. The teacher needs its folder in the run, and PyTorch; --with_teacher yes asks for it.",
    late: "The teacher did not answer in time. It is read when it is first asked; try again in a moment.",
    rest: "{count} others",
    words: "Which words mattered",
    meaning: "Each word is left out once: by how many points does the student's probability of “{label}” change?",
    none: "No word decides alone: leave out any one of them, and the answer hardly changes.",
    for: "for",
    against: "against",
    for_word: "For “{label}”: without it the probability falls by {points} points",
    against_word: "Against “{label}”: without it the probability rises by {points} points",
    many: "{count} headlines in {time}. Click one for its details.",
    headline: "Headline",
    label: "Label",
    share: "Probability",
    files: "A whole file",
    rules: "CSV, TSV, JSON Lines or plain text. The same rows in the same order, each with its label and probability.",
    choose: "Choose a file",
    drop: "or drop one here",
    stop: "Cancel",
    sending: "Sending {name}…",
    labelling: "Labelling {name}…",
    stopped: "Cancelled.",
    labelled: "{name}: {rows} rows labelled in {time}.",
    labelled_but: "{name}: {rows} rows labelled in {time}; {bad} could not be read and were left out.",
    download: "Download {name}",
    docs: "API",
    silent: "The service does not answer",
    silent_hint: "see that it is running, then try again",
    strange: "The service's answer cannot be read ({status})",
  },
};

const last = recall("language"); // perhaps of another program, which had this address before
let language = ["zh", "en"].includes(last) ? last : navigator.language.startsWith("zh") ? "zh" : "en";

/** A text in the page's language, its {names} filled in. */
export function say(key, values = {}) {
  return TEXTS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Write every fixed text of the page in its language. */
export function speak() {
  document.documentElement.lang = language;
  for (const part of document.querySelectorAll("[data-say]")) part.textContent = say(part.dataset.say);
  for (const part of document.querySelectorAll("[data-say-label]")) part.ariaLabel = say(part.dataset.sayLabel);
}

/** The other language from now on. */
export function turn() {
  language = language === "zh" ? "en" : "zh";
  remember("language", language);
  speak();
}

/** The language that {@link turn} would change to. */
export const other = () => (language === "zh" ? "en" : "zh");

/** A share as a percentage. */
export const percent = (share) =>
  share.toLocaleString(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** A number with so many digits that count, or its whole part where that is longer. */
export const number = (value, digits = 2) =>
  value.toLocaleString(language, {
    maximumSignificantDigits: Math.max(digits, Math.floor(Math.log10(Math.max(value, 1))) + 1),
  });

/** A time in milliseconds, from a second on in seconds. */
export const time = (ms) => (ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000)} s`);
