// The service's endpoints. Every failure is thrown as a ServiceError.
import { translate } from "./i18n.js";

/** A request failed: what is wrong (`message`) and what to do next (`hint`). */
export class ServiceError extends Error {
  constructor(message, hint = "") {
    super(message);
    this.hint = hint;
  }
}

/** GET `path`, or POST `body` to it as JSON; return the parsed response. An aborted signal throws an AbortError. */
export async function requestJson(path, body, signal) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const response = await fetch(path, { ...options, signal }).catch(rethrow);
  const content = await response.text();
  if (!response.ok) throw errorOf(response.status, content);
  return JSON.parse(content);
}

/**
 * Upload a file to be labelled. Resolves to the labelled file (`content`) and the number of labelled and of bad rows.
 * `onUpload` is called with the share that has been uploaded, 0 to 1.
 */
export function uploadFile(file, onUpload, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report upload progress
    const count = (header) => Number(request.getResponseHeader(header));
    request.open("POST", `label_file?name=${encodeURIComponent(file.name)}`);
    request.responseType = "blob";
    request.upload.onprogress = (event) => onUpload(event.loaded / event.total);
    request.onload = async () =>
      request.status === 200
        ? resolve({ content: request.response, rows: count("X-Rows"), bad: count("X-Bad-Rows") })
        : reject(errorOf(request.status, await request.response.text()));
    request.onerror = () => reject(noResponse());
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

const noResponse = () => new ServiceError(translate("no_response"), translate("no_response_hint"));

function rethrow(error) {
  throw error.name === "AbortError" ? error : noResponse();
}

function errorOf(status, content) {
  try {
    const { error, hint } = JSON.parse(content);
    if (error) return new ServiceError(error, hint);
  } catch {
    // Not the service's JSON, for example the error page of a proxy.
  }
  return new ServiceError(translate("unexpected_response", { status }), translate("no_response_hint"));
}
