// The page's texts in Chinese and English, the choice of the language, and the format of numbers.
import { load, save } from "./storage.js";

export const TEXTS = {
  zh: {
    title: "短文本分类",
    lead: "由 BERT 蒸馏得到的小模型，用于中文短文本分类。输入文本，对比学生模型与教师模型的结果。",
    labels: "共 {count} 个类别：{names}",
    tasks: "共 {count} 个任务：{names}",
    of_task: "{task}：{content}",
    other_language: "English",
    dark: "深色",
    texts: "文本（每行一条）",
    classify: "分类",
    how: "或按 Ctrl + Enter。单条显示详情，多条显示为表格。",
    examples: "试一试",
    all: "全部 {count} 条",
    empty: "请先输入文本。",
    working: "正在分类……",
    results: "结果",
    verdict: "学生模型：「{label}」，概率 {share}。",
    agrees: "{student}教师模型结果相同，耗时为学生模型的 {times} 倍。",
    differs: "{student}教师模型：「{label}」，概率 {share}，耗时为学生模型的 {times} 倍。",
    verdict_any: "学生模型：{labels}。",
    differs_any: "{student}教师模型：{labels}，耗时为学生模型的 {times} 倍。",
    quoted: "「{label}」",
    no_label: "无类别",
    student: "学生模型",
    teacher: "教师模型",
    no_teacher:
      "教师模型未启用。启用条件：训练目录中有教师模型，并已安装 PyTorch；启动服务时可加上 --with_teacher yes。",
    teacher_late: "教师模型未能及时返回结果。首次使用时需要加载，请稍后重试。",
    other_labels: "其余 {count} 类",
    words: "各词的影响",
    meaning: "逐一去掉每个词后，学生模型判为「{label}」的概率变化（百分点）。",
    no_decisive_word: "没有哪个词单独起决定作用：去掉任何一个词，结果几乎不变。",
    for: "支持",
    against: "反对",
    for_word: "支持「{label}」：去掉后概率下降 {points} 个百分点",
    against_word: "反对「{label}」：去掉后概率上升 {points} 个百分点",
    many: "共 {count} 条文本，用时 {time}。点击文本查看详情。",
    text: "文本",
    label: "类别",
    probability: "概率",
    files: "批量处理文件",
    rules: "支持 CSV、TSV、JSON Lines，以及每行一条的纯文本。结果保留原有的行和顺序，并附上类别和概率。",
    choose: "选择文件",
    drop: "或将文件拖到此处",
    cancel: "取消",
    uploading: "正在上传 {name}……",
    labelling: "正在标注 {name}……",
    cancelled: "已取消。",
    labelled: "{name}：已标注 {rows} 行，用时 {time}。",
    labelled_with_bad_rows: "{name}：已标注 {rows} 行，用时 {time}；另有 {bad} 行无法读取，已跳过。",
    download: "下载 {name}",
    docs: "API 文档",
    no_response: "服务没有响应",
    no_response_hint: "请确认服务正在运行，然后重试",
    unexpected_response: "无法识别服务的响应（状态码 {status}）",
  },
  en: {
    title: "Chinese short-text classification",
    lead: "A small model, distilled from BERT, classifies short Chinese texts. Enter texts and compare student and teacher.",
    labels: "{count} labels: {names}",
    tasks: "{count} tasks: {names}",
    of_task: "{task}: {content}",
    other_language: "中文",
    dark: "Dark",
    texts: "Texts, one per line",
    classify: "Classify",
    how: "Or press Ctrl + Enter. One line shows details, several lines a table.",
    examples: "Try one",
    all: "all {count}",
    empty: "Enter a text first.",
    working: "Classifying…",
    results: "Results",
    verdict: "Student: “{label}”, probability {share}.",
    agrees: "{student} The teacher agrees and takes {times} times as long.",
    differs: "{student} Teacher: “{label}”, probability {share}; it takes {times} times as long.",
    verdict_any: "Student: {labels}.",
    differs_any: "{student} Teacher: {labels}; it takes {times} times as long.",
    quoted: "“{label}”",
    no_label: "no label",
    student: "Student",
    teacher: "Teacher",
    no_teacher:
      "No teacher is available. It needs a trained teacher in the run's folder, and PyTorch; restart the service with --with_teacher yes.",
    teacher_late: "The teacher did not respond in time. It is loaded on first use; try again in a moment.",
    other_labels: "{count} others",
    words: "Influence of each word",
    meaning: "By how many percentage points the student's probability of “{label}” changes without each word.",
    no_decisive_word: "No single word is decisive: without any one of them the result hardly changes.",
    for: "for",
    against: "against",
    for_word: "For “{label}”: without it the probability falls by {points} points",
    against_word: "Against “{label}”: without it the probability rises by {points} points",
    many: "{count} texts in {time}. Click a text for details.",
    text: "Text",
    label: "Label",
    probability: "Probability",
    files: "Classify a file",
    rules: "CSV, TSV, JSON Lines, or plain text with one text per line. You get the same rows in the same order, with label and probability.",
    choose: "Choose a file",
    drop: "or drop it here",
    cancel: "Cancel",
    uploading: "Uploading {name}…",
    labelling: "Labelling {name}…",
    cancelled: "Cancelled.",
    labelled: "{name}: {rows} rows labelled in {time}.",
    labelled_with_bad_rows: "{name}: {rows} rows labelled in {time}; {bad} could not be read and were skipped.",
    download: "Download {name}",
    docs: "API documentation",
    no_response: "The service does not respond",
    no_response_hint: "Check that it is running, then try again",
    unexpected_response: "Unexpected response from the service (status {status})",
  },
};

const saved = load("language"); // may be another program's value: localStorage belongs to the address
let language = ["zh", "en"].includes(saved) ? saved : navigator.language.startsWith("zh") ? "zh" : "en";

/** A text in the current language, with its {placeholders} filled in. */
export function translate(key, values = {}) {
  return TEXTS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Set every fixed text of the page (data-i18n) and every label for screen readers (data-i18n-label). */
export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-i18n]")) {
    element.textContent = translate(element.dataset.i18n);
  }
  for (const element of document.querySelectorAll("[data-i18n-label]")) {
    element.ariaLabel = translate(element.dataset.i18nLabel);
  }
}

/** Switch to the other language and remember it. */
export function switchLanguage() {
  language = otherLanguage();
  save("language", language);
  translatePage();
}

/** The language that {@link switchLanguage} would switch to. */
export const otherLanguage = () => (language === "zh" ? "en" : "zh");

/** A number between 0 and 1 as a percentage. */
export const formatPercent = (share) =>
  share.toLocaleString(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** A number with `digits` significant digits, or with all digits before the decimal point if those are more. */
export const formatNumber = (value, digits = 2) =>
  value.toLocaleString(language, {
    maximumSignificantDigits: Math.max(digits, Math.floor(Math.log10(Math.max(value, 1))) + 1),
  });

/** A time given in milliseconds; from 1000 ms on in seconds. */
export const formatTime = (ms) => (ms < 1000 ? `${formatNumber(ms)} ms` : `${formatNumber(ms / 1000)} s`);
