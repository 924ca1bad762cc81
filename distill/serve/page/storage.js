// Settings that last between visits, in localStorage. Where the browser forbids it, nothing is saved.

/** The string saved under `name`, or null. */
export function load(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Save a string under `name`. */
export function save(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // For example a private window: the setting lasts for this visit only.
  }
}
