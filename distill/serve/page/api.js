// The service's endpoints; what goes wrong comes as a Fault with what to do next.
import { say } from "./i18n.js";

/** What the service refused, and its hint. */
export class Fault extends Error {
  constructor(error, hint = "") {
    super(error);
    this.hint = hint;
  }
}

/** The JSON answer to a question; an aborted signal throws an AbortError. */
export async function ask(path, question, signal) {
  const request = question && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
  };
  const answer = await fetch(path, { ...request, signal }).catch(silence);
  const content = await answer.text();
  if (!answer.ok) throw faultOf(answer.status, content);
  return JSON.parse(content);
}

/** The labelled file, and how many of its rows were labelled or bad; `sent` hears which share of it has gone up. */
export function label(file, sent, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch would not say what was sent
    const count = (name) => Number(request.getResponseHeader(name));
    request.open("POST", `label_file?name=${encodeURIComponent(file.name)}`);
    request.responseType = "blob";
    request.upload.onprogress = (event) => sent(event.loaded / event.total);
    request.onload = async () =>
      request.status === 200
        ? resolve({ content: request.response, rows: count("X-Rows"), bad: count("X-Bad-Rows") })
        : reject(faultOf(request.status, await request.response.text()));
    request.onerror = () => reject(silent());
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

const silent = () => new Fault(say("silent"), say("silent_hint"));

function silence(error) {
  throw error.name === "AbortError" ? error : silent();
}

function faultOf(status, content) {
  try {
    const { error, hint } = JSON.parse(content);
    if (error) return new Fault(error, hint);
  } catch {
    // Not ours: a proxy's page.
  }
  return new Fault(say("strange", { status }), say("silent_hint"));
}
