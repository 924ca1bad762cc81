// A whole file: chosen or dropped, sent, and its labelled rows to download.
import { blame } from "./render.js";
import { number, say, time } from "./i18n.js";
import { label } from "./api.js";

const at = (id) => document.getElementById(id);
let job = null; // the AbortController of the file that is being labelled

/** Listen to the button, and to files that are dropped anywhere. */
export function takeFiles() {
  at("file").addEventListener("change", ({ target }) => {
    if (target.files.length) work(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
  at("stop").addEventListener("click", () => {
    job.abort();
    at("file").focus(); // the button goes
  });
  const carries = (event) => event.dataTransfer.types.includes("Files"); // a dragged text goes where it is dropped
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault(); // or the browser would open the file
    at("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    at("drop").classList.remove("over");
    if (event.dataTransfer.files.length) work(event.dataTransfer.files[0]);
  });
}

async function work(file) {
  job?.abort();
  const own = (job = new AbortController());
  const { name } = file;
  const started = performance.now();
  begin(say("sending", { name }));
  try {
    const { content, rows, bad } = await label(file, (share) => own === job && advance(share, name), own.signal);
    const taken = time(performance.now() - started);
    const values = { name, rows: number(rows), bad: number(bad), time: taken };
    if (own === job) offer(content, name, say(bad ? "labelled_but" : "labelled", values));
  } catch (error) {
    if (own !== job) return;
    if (own.signal.aborted) end(say("stopped"));
    else end("", error);
  }
}

function begin(stage) {
  end(stage);
  at("job").hidden = false;
  at("progress").value = 0;
  at("download").hidden = true;
}

/** While it is sent the share is known; while it is labelled only that it goes on. */
function advance(share, name) {
  if (share < 1) at("progress").value = share;
  else if (at("progress").hasAttribute("value")) {
    at("progress").removeAttribute("value");
    at("stage").textContent = say("labelling", { name });
  }
}

function offer(content, name, said) {
  end(said);
  const link = at("download");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(content);
  link.download = name.replace(/(\.[^.]*)?$/, ".labelled$1");
  link.textContent = say("download", { name: link.download });
  link.hidden = false;
}

function end(stage, error = null) {
  at("job").hidden = true;
  at("stage").textContent = stage;
  blame(at("file_fault"), error);
}
