// What the form for a checkpoint gains by a script: files dropped onto it, a bar while one is sent, and the options
// of the chosen architecture alone. Everything is found anew at each event, since an answer replaces the form.
"use strict";

const find = (selector) => document.querySelector(`form.submit ${selector}`);

function size(bytes) {
  const step = Math.min(3, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${(bytes / 1000 ** step).toFixed(step && 1)} ${["bytes", "kB", "MB", "GB"][step]}`;
}

function show() {
  const input = find("input[type=file]");
  if (!input) return;
  const file = input.files[0];
  const most = Number(find(".drop").dataset.mostBytes);
  const tooLarge = file && file.size > most;
  input.setCustomValidity(tooLarge ? `The file has ${file.size} bytes; send at most ${most}.` : "");
  const line = find("[data-chosen]");
  line.hidden = !file;
  line.classList.toggle("text-danger", Boolean(tooLarge));
  line.textContent = file ? input.validationMessage || `${size(file.size)}, of at most ${size(most)}` : "";
  const chosen = find("select[name=architecture]").value;
  for (const fieldset of document.querySelectorAll("form.submit fieldset[data-architecture]")) {
    fieldset.hidden = fieldset.disabled = fieldset.dataset.architecture !== chosen;
  }
}

function send(form) {
  const files = find("input[type=file]").files;
  const line = find("[data-progress]");
  const button = find("button");
  const request = new XMLHttpRequest();
  const say = (text) => { line.querySelector("span").textContent = text; };
  const giveUp = () => { button.disabled = false; say("The connection broke off; hand it in again."); };
  line.hidden = false;
  button.disabled = true;
  request.upload.onprogress = (event) => {
    line.querySelector("progress").value = event.loaded / event.total;
    say(`${size(event.loaded)} of ${size(event.total)}`);
  };
  request.upload.onload = () => say("The file has arrived and is being looked at …");
  request.onerror = giveUp;
  request.onload = () => {
    if (request.status === 201) return location.assign(request.getResponseHeader("Location"));
    if (request.responseURL !== form.action) return location.assign(request.responseURL);
    const main = new DOMParser().parseFromString(request.responseText, "text/html").querySelector("main");
    if (!main) return giveUp();
    document.querySelector("main").replaceWith(main);
    const input = find("input[type=file]");
    if (input) input.files = files;
    show();
    const refused = document.querySelector(".refused :is(input, select)");
    if (refused) refused.focus();
  };
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.send(new FormData(form));
}

document.addEventListener("change", show);
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form.submit")) return;
  event.preventDefault();
  send(event.target);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const place = find(".drop");
    if (!place || !event.dataTransfer || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    place.classList.toggle("over", kind === "dragover");
    if (kind !== "drop" || !event.dataTransfer.files.length) return;
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    find("input[type=file]").files = one.files;
    show();
  });
}
addEventListener("pageshow", show);
show();
