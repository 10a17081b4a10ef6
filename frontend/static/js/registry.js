// Registry pages: a folder can be uploaded with its paths, keys open what they name, "/" goes to the search.
const form = document.querySelector("form[data-upload]");

if (form) {
  const files = form.querySelector("#files");
  const folder = form.querySelector("#folder");
  const chosen = form.querySelector("[data-chosen]");
  form.querySelector("[data-folder]").hidden = false; // without a script the paths would be lost

  const say = (list) => {
    const bytes = [...list].reduce((sum, file) => sum + file.size, 0);
    const size = bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
    chosen.textContent = list.length ? `${list.length} file${list.length === 1 ? "" : "s"}, ${size}` : "";
  };
  const forget = () => form.querySelectorAll("input[name=paths]").forEach((node) => node.remove());

  folder.addEventListener("change", () => {
    const carrier = new DataTransfer();
    forget();
    for (const file of folder.files) {
      carrier.items.add(file);
      const path = document.createElement("input");
      Object.assign(path, { type: "hidden", name: "paths", value: file.webkitRelativePath || file.name });
      form.append(path);
    }
    files.files = carrier.files;
    say(files.files);
  });
  files.addEventListener("change", () => {
    forget();
    say(files.files);
  });
  form.addEventListener("submit", () => {
    if (files.files.length) chosen.textContent += ", uploading…";
  });
}

let leader = -Infinity; // "g" and then a letter goes to another room: that letter is not ours

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (document.querySelector("dialog[open]") || localStorage.getItem("pilothouse-keys-off")) return;
  const search = document.querySelector("[data-search]");
  if (event.key === "/" && search) {
    event.preventDefault();
    event.stopImmediatePropagation();
    search.focus();
    return;
  }
  if (event.key === "g") leader = performance.now();
  else if (/^[a-z]$/.test(event.key) && performance.now() - leader > 1500) document.querySelector(`[data-key="${event.key}"]`)?.click();
}, true);
