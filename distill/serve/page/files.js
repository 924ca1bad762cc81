// Whole files: choose or drop one, upload it, download its labelled rows.
import { uploadFile } from "./api.js";
import { formatNumber, formatTime, translate } from "./i18n.js";
import { showError } from "./render.js";

const byId = (id) => document.getElementById(id);
let current = null; // the AbortController of the file that is being labelled

/** Attach the listeners: the file button, the cancel button, and dropping a file anywhere on the page. */
export function setUpFiles() {
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files.length) labelFile(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
  byId("cancel").addEventListener("click", () => {
    current.abort();
    byId("file").focus(); // the cancel button disappears
  });
  const hasFiles = (event) => event.dataTransfer.types.includes("Files"); // dragged text is left to the browser
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // otherwise the browser would open the file
    byId("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    byId("drop").classList.remove("over");
    if (event.dataTransfer.files.length) labelFile(event.dataTransfer.files[0]);
  });
}

async function labelFile(file) {
  current?.abort();
  const controller = (current = new AbortController());
  const { name } = file;
  const started = performance.now();
  showProgress(translate("uploading", { name }));
  try {
    const onUpload = (share) => controller === current && updateProgress(share, name);
    const { content, rows, bad } = await uploadFile(file, onUpload, controller.signal);
    const time = formatTime(performance.now() - started);
    const values = { name, rows: formatNumber(rows), bad: formatNumber(bad), time };
    const message = translate(bad ? "labelled_with_bad_rows" : "labelled", values);
    if (controller === current) offerDownload(content, name, message);
  } catch (error) {
    if (controller !== current) return;
    if (controller.signal.aborted) showResult(translate("cancelled"));
    else showResult("", error);
  }
}

function showProgress(message) {
  showResult(message);
  byId("job").hidden = false;
  byId("progress").value = 0;
  byId("download").hidden = true;
}

/** Show the share that is uploaded; afterwards, while the file is labelled, an indeterminate bar. */
function updateProgress(share, name) {
  if (share < 1) byId("progress").value = share;
  else if (byId("progress").hasAttribute("value")) {
    byId("progress").removeAttribute("value");
    byId("stage").textContent = translate("labelling", { name });
  }
}

function offerDownload(content, name, message) {
  showResult(message);
  const link = byId("download");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(content);
  link.download = name.replace(/(\.[^.]*)?$/, ".labelled$1");
  link.textContent = translate("download", { name: link.download });
  link.hidden = false;
}

function showResult(message, error = null) {
  byId("job").hidden = true;
  byId("stage").textContent = message;
  showError(byId("file_fault"), error);
}
