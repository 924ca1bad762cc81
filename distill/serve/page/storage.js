// What the page remembers between visits; a browser may forbid it, then it remembers nothing.

/** What was remembered under a name, or null. */
export function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Remember a string under a name. */
export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Private windows: the choice holds for this visit.
  }
}
