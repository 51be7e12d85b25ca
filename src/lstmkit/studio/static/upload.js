"use strict";
// A file that is dropped anywhere on the page is added at once.

const form = document.getElementById("upload");
const input = document.getElementById("files");
const zone = form.querySelector(".drop");

function send() {
  document.getElementById("uploading").hidden = false;
  form.requestSubmit();
}

form.addEventListener("change", (event) => event.target.files.length && send());
form.addEventListener("submit", () => {
  document.getElementById("uploading").hidden = false;
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) zone.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  if (!event.dataTransfer.files.length) return;
  input.files = event.dataTransfer.files;
  send();
});
