// Show the page in the language of the browser until the reader chooses one with the button, as the service's page does.
{
  const root = document.documentElement;
  const button = document.getElementById("language");
  const show = (language) => {
    root.lang = language;
    button.lang = language === "zh" ? "en" : "zh";
    button.textContent = language === "zh" ? "English" : "中文";
    document.title = document.querySelector("h1").innerText;
  };
  let saved = null;
  try {
    saved = localStorage.getItem("language"); // may be another program's value
  } catch {
    // The browser forbids it: the choice lasts for this visit only.
  }
  show(["zh", "en"].includes(saved) ? saved : navigator.language.startsWith("zh") ? "zh" : "en");
  button.hidden = false;
  button.addEventListener("click", () => {
    show(button.lang);
    try {
      localStorage.setItem("language", root.lang);
    } catch {
      // As above.
    }
  });
}
